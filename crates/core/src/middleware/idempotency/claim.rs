//! The right to work on a key, and the answer that is kept for it: one row of `idempotency_keys`.

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::longest;
use super::sealed::{open, seal};
use crate::app::App;
use crate::auth::Caller;
use crate::db::{Deferral, ToSql};
use crate::error::{Error, Result};
use crate::from_row;
use crate::module::Route;

/// Beyond `REQUEST_TIMEOUT`, in seconds: by then the work of a claim has been rolled back, and another may try.
const MARGIN: f64 = 5.0;

/// Takes the key unless it is taken, and removes some of the tenant's that have expired. Of a row that is being inserted
/// at this moment nothing is seen: it is in flight. A claim that ends later than any can was made before PostgreSQL's clock
/// was set back: nobody works on it. Where somebody does after all, `app.store_answer` refuses to commit its work.
const TAKE: &str = "with expired as (delete from idempotency_keys where (principal, route, key) in \
       (select principal, route, key from idempotency_keys where expires_at < now() \
        and (principal, route, key) <> ($1, $2, $3) limit 20)), \
     taken as (insert into idempotency_keys (principal, route, key, fingerprint, claim, claimed_until, expires_at) \
       values ($1, $2, $3, $4, $5, now() + $6 * interval '1 second', now() + $7 * interval '1 second') \
       on conflict (tenant_id, principal, route, key) do update set fingerprint = excluded.fingerprint, \
         claim = excluded.claim, claimed_until = excluded.claimed_until, expires_at = excluded.expires_at, \
         status = null, headers = null, body = null \
       where idempotency_keys.expires_at < now() \
         or (idempotency_keys.status is null and (idempotency_keys.claimed_until < now() \
           or idempotency_keys.claimed_until > now() + 2 * $6 * interval '1 second')) \
       returning claim) \
     select exists (select from taken) as taken, k.fingerprint, k.status, k.headers, k.body \
     from (select) as one left join idempotency_keys k on (k.principal, k.route, k.key) = ($1, $2, $3)";
const STORE: &str = "select app.store_answer($1, $2, $3, $4, $5, $6, $7)";
const RELEASE: &str = "delete from idempotency_keys \
     where (principal, route, key) = ($1, $2, $3) and claim = $4 and status is null";

struct ClaimRow {
    taken: bool,
    fingerprint: Option<Vec<u8>>,
    status: Option<i16>,
    headers: Option<Value>,
    body: Option<Vec<u8>>,
}
from_row!(ClaimRow { taken, fingerprint, status, headers, body });

/// What became of an attempt to take a key.
pub(super) enum ClaimVerdict {
    /// It is ours.
    Ours,
    /// The request was answered before.
    Answered(Stored),
    /// The request is being worked on.
    InFlight,
    /// The key was used for another request.
    AnotherRequest,
}

/// An answer that is kept.
pub(super) struct Stored {
    pub(super) status: i16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Stored {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        Self {
            status: i16::try_from(status.as_u16()).unwrap_or(500),
            headers: headers.collect(),
            body: body.to_vec(),
        }
    }
}

/// A key that a request works on.
pub(super) struct Claim<'a> {
    app: &'a App,
    pub(super) caller: &'a Caller,
    principal: String,
    route: String,
    key: String,
    sends_a_file: bool,
    shows_secret: bool,
    /// Tells this attempt from others at the same key.
    number: Uuid,
}

impl<'a> Claim<'a> {
    pub(super) fn new(app: &'a App, route: &Route, key: String, caller: &'a Caller) -> Self {
        let mut random = [0; 16];
        app.rng.fill(&mut random);
        let number = uuid::Builder::from_random_bytes(random).into_uuid();
        let principal = caller.actor().to_string();
        let sends_a_file = route.upload.is_some();
        let shows_secret = route.shows_secret;
        let route = format!("{} {}", route.method, route.path);
        Self { app, caller, principal, route, key, sends_a_file, shows_secret, number }
    }

    /// What an answer is sealed for. None of the parts has a line break.
    fn place(&self) -> Vec<u8> {
        let tenant = self.caller.tenant().to_string();
        [tenant.as_str(), &self.principal, &self.route, &self.key].join("\n").into_bytes()
    }

    /// One round trip.
    pub(super) async fn take(&self, fingerprint: &[u8]) -> Result<ClaimVerdict> {
        let config = &self.app.config;
        let lease = longest(self.app, self.sends_a_file).as_secs_f64() + MARGIN;
        let kept = config.http.idempotency_keep.as_secs_f64();
        let params: [&(dyn ToSql + Sync); 7] =
            [&self.principal, &self.route, &self.key, &fingerprint, &self.number, &lease, &kept];
        let row: ClaimRow = self.app.db.tenant(self.caller).last().row(TAKE, &params).await?;
        Ok(match row {
            ClaimRow { taken: true, .. } => ClaimVerdict::Ours,
            ClaimRow { fingerprint: Some(other), .. } if other != fingerprint => ClaimVerdict::AnotherRequest,
            ClaimRow { status: Some(status), headers, body, .. } => {
                let body = body.unwrap_or_default();
                ClaimVerdict::Answered(match headers {
                    Some(headers) => {
                        let headers = serde_json::from_value(headers).map_err(Error::internal)?;
                        Stored { status, headers, body }
                    }
                    None => open(config, &self.place(), status, &body)?,
                })
            }
            _ => ClaimVerdict::InFlight,
        })
    }

    /// Stores the answer and commits what the request has changed, in one. The headers of one that is sealed are in its body.
    pub(super) async fn store(&self, deferral: Deferral, answer: &Stored) -> Result<()> {
        let sealed = self.shows_secret.then(|| seal(self.app, &self.place(), answer)).transpose()?;
        let headers = if sealed.is_some() { None } else { Some(serde_json::to_value(&answer.headers)) };
        let headers = headers.transpose().map_err(Error::internal)?;
        let body = sealed.as_ref().unwrap_or(&answer.body);
        let params: [&(dyn ToSql + Sync); 7] =
            [&self.principal, &self.route, &self.key, &self.number, &answer.status, &headers, body];
        if !deferral.commit(STORE, &params).await? {
            let _: Vec<()> = self.app.db.tenant(self.caller).last().rows(STORE, &params).await?;
        }
        Ok(())
    }

    /// Gives the key back, unless its answer has been stored. Else its time runs out.
    pub(super) async fn release(&self) {
        let params: [&(dyn ToSql + Sync); 4] = [&self.principal, &self.route, &self.key, &self.number];
        let released: Result<Vec<()>> = self.app.db.tenant(self.caller).last().rows(RELEASE, &params).await;
        if let Err(error) = released {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "An idempotency key stays claimed for a while"
            );
        }
    }
}
