use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signing::SigningRing;
use super::verified::Verified;
use super::{
    Actor, CsrfKeys, DeviceKeys, Identity, Methods, PasskeyChallengeKeys, PublicKeys, RefreshKeys, SignedIn,
};
use crate::config::JwtSettings;
use crate::error::{Error, codes};
use crate::shared::{Clock, OperatorId, Rng, Secret, SessionId, ShownSecret, TenantId, UserId};

const ISSUER: &str = "erp-backend";
const AUDIENCE: &str = "erp-backend-api";
/// RFC 9068: an access token says so, and no other kind of token passes for one (J-03).
const TYPE: &str = "at+jwt";
/// A longer token is refused before any of it is decoded (J-06).
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far another instance's clock may be off (J-02).
const LEEWAY_SECONDS: i64 = 60;
/// No token of another instance lasts longer, whatever it is set to (J-02).
const LONGEST: Duration = Duration::from_secs(900);
/// Nor one of an operator in a person's place, whose session is looked at all the while.
const LONGEST_IMPERSONATION: Duration = Duration::from_secs(3600);

/// Issues and verifies access tokens, with a ring of keys, so that the secret rotates without an outage.
///
/// The key is picked by `kid` from the ring, never from anything in the token; its algorithm is fixed (RFC 8725, 3.1).
pub struct Authenticator {
    ring: SigningRing,
    refresh_keys: RefreshKeys,
    csrf_keys: CsrfKeys,
    device_keys: DeviceKeys,
    passkey_challenges: PasskeyChallengeKeys,
    /// Verifying a signature costs more than all else that a read does on its way in.
    verified: Verified,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

/// The answer to a sign-in.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessToken {
    /// A JWT; send it as `Authorization: Bearer …`.
    #[schemars(example = &"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI…")]
    pub access_token: ShownSecret,
    /// Always `Bearer`.
    #[schemars(example = &"Bearer")]
    pub token_type: &'static str,
    /// Seconds until it expires.
    #[schemars(example = 900)]
    #[schemars(range(min = 1, max = 900))]
    pub expires_in: u64,
}

/// Claims that are not known are ignored (RFC 7519, 4): the next version may add one. Of roles there is none: what a
/// person may do is read where it stands now, and not where it stood when the token was signed.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    tid: TenantId,
    iat: i64,
    exp: i64,
    /// Ours have none; one that is there counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    jti: String,
    /// The session; tokens of the version before sessions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amr: Option<Methods>,
    /// Who acts in the person's place (RFC 8693, 4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    act: Option<ActingOperator>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ActingOperator {
    sub: OperatorId,
}

impl Authenticator {
    /// With the secrets of the settings: the current one signs, all verify.
    pub fn new(settings: &JwtSettings, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>) -> Self {
        Self {
            ring: SigningRing::new(settings),
            refresh_keys: RefreshKeys::new(settings.ring()),
            csrf_keys: CsrfKeys::new(settings.ring()),
            device_keys: DeviceKeys::new(settings.ring()),
            passkey_challenges: PasskeyChallengeKeys::new(settings.ring()),
            verified: Verified::default(),
            lifetime: settings.expires_in,
            clock,
            rng,
        }
    }

    /// The keys that others verify access tokens with; none where they are signed with HS256.
    pub fn public_keys(&self) -> PublicKeys {
        self.ring.public()
    }

    /// The keys that lead from one refresh token to the next.
    pub fn refresh_keys(&self) -> &RefreshKeys {
        &self.refresh_keys
    }

    /// The keys of the tokens by which pages show that they are ours.
    pub fn csrf_keys(&self) -> &CsrfKeys {
        &self.csrf_keys
    }

    /// The keys that sign the secrets of known devices.
    pub fn device_keys(&self) -> &DeviceKeys {
        &self.device_keys
    }

    /// The keys that sign what a passkey answers of which nobody knows yet whose it is.
    pub fn passkey_challenges(&self) -> &PasskeyChallengeKeys {
        &self.passkey_challenges
    }

    /// An access token for a person whose credentials have just been verified, of a session of its own, if there is one: it
    /// is good as long as the session.
    ///
    /// # Errors
    /// `core.internal` when signing fails.
    pub fn issue(
        &self,
        tenant: TenantId,
        user: UserId,
        signed_in: Option<SignedIn>,
    ) -> Result<AccessToken, Error> {
        self.sign((tenant, user), None, signed_in, self.lifetime)
    }

    /// An access token for an operator who acts in a person's place. It is good as long as its session, of an hour at most: there is no
    /// way to another one.
    ///
    /// # Errors
    /// `core.internal` when signing fails.
    pub fn impersonate(
        &self,
        (tenant, user): (TenantId, UserId),
        operator: OperatorId,
        signed_in: SignedIn,
        lifetime: Duration,
    ) -> Result<AccessToken, Error> {
        let acting = ActingOperator { sub: operator };
        self.sign((tenant, user), Some(acting), Some(signed_in), lifetime.min(LONGEST_IMPERSONATION))
    }

    fn sign(
        &self,
        (tenant, user): (TenantId, UserId),
        act: Option<ActingOperator>,
        signed_in: Option<SignedIn>,
        lifetime: Duration,
    ) -> Result<AccessToken, Error> {
        let mut jti = [0; 16];
        self.rng.fill(&mut jti);
        let iat = self.clock.now().as_second();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user,
            tid: tenant,
            iat,
            exp: iat.saturating_add_unsigned(lifetime.as_secs()),
            nbf: None,
            jti: URL_SAFE_NO_PAD.encode(jti),
            sid: signed_in.map(|session| session.session),
            auth_time: signed_in.map(|session| session.at),
            amr: signed_in.map(|session| session.methods),
            act,
        };
        let key = self.ring.current().ok_or_else(|| Error::internal("the ring of signing keys is empty"))?;
        let mut header = Header::new(key.algorithm);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(key.id.clone());
        let access_token = encode(&header, &claims, &key.sign).map_err(Error::internal)?;
        let access_token = Secret::new(access_token).into();
        Ok(AccessToken { access_token, token_type: "Bearer", expires_in: lifetime.as_secs() })
    }

    /// Verifies `token` and says who it was issued to.
    ///
    /// # Errors
    /// `core.unauthenticated`, the same for every reason; the reason is the cause, for the log.
    pub fn verify(&self, token: &str) -> Result<Identity, Error> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is too long"));
        }
        let now = self.clock.now().as_second();
        if let Some(identity) = self.verified.find(token, now) {
            return Ok(identity);
        }
        let header = decode_header(token).map_err(refused)?;
        if header.typ.as_deref() != Some(TYPE) {
            return Err(refused("not an access token"));
        }
        // What must be understood is not: no extension is (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(refused("the token asks for an extension by crit"));
        }
        let key = header
            .kid
            .and_then(|kid| self.ring.by_id(&kid))
            .ok_or_else(|| refused("signed with a key that is not on the ring"))?;
        let claims =
            decode::<Claims>(token, &key.verify, &validation(key.algorithm)).map_err(refused)?.claims;
        self.check_times(&claims, now)?;
        let signed_in = claims.sid.map(|session| SignedIn {
            session,
            at: claims.auth_time.unwrap_or(claims.iat),
            methods: claims.amr.unwrap_or_default(),
        });
        let actor = match claims.act {
            Some(ActingOperator { sub: operator }) => Actor::Impersonator { operator, person: claims.sub },
            None => Actor::Person(claims.sub),
        };
        let identity = Identity { signed_in, ..Identity::new(claims.tid, actor) };
        let begin = claims.nbf.map_or(claims.iat, |nbf| nbf.max(claims.iat));
        self.verified.remember(token, identity, begin - LEEWAY_SECONDS..claims.exp, now);
        Ok(identity)
    }

    /// By our own clock, which the library cannot be given.
    fn check_times(&self, claims: &Claims, now: i64) -> Result<(), Error> {
        let longest = match claims.act {
            Some(_) => LONGEST_IMPERSONATION,
            None => self.lifetime.max(LONGEST),
        };
        let longest = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
        if now >= claims.exp {
            return Err(refused("the token has expired"));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + LEEWAY_SECONDS) {
            return Err(refused("the token is not valid yet"));
        }
        if claims.iat > now + LEEWAY_SECONDS || claims.exp.saturating_sub(claims.iat) > longest {
            return Err(refused("the token's times do not fit"));
        }
        Ok(())
    }
}

fn validation(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_exp = false; // checked by our own clock
    validation
}

fn refused(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(&codes::UNAUTHENTICATED).because(reason)
}
