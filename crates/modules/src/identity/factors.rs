//! The second factor: what a code is, how it is proven, and how few wrong ones are let through.

use std::time::Duration;

use erp_core::app::App;
use erp_core::auth::{Method, TotpSeal, Trace, recovery_hash};
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result};
use erp_core::from_row;
use erp_core::logging::Severity;
use erp_core::security_event;
use erp_core::shared::{Secret, TenantId, UserId};
use serde_json::json;
use uuid::Uuid;

use super::codes;
use super::session::address;

/// One after the other: of a person's attempts, wherever they come from, each sees how the one before it ended.
const LOCK: &str = "select id from auth.people where id = $1 and disabled_at is null for no key update";
/// The fifth failure within 15 minutes, and the thirtieth within a day, shut a person's codes out until it is over. Five in 15
/// minutes alone would let a thief of a password guess right within a year with a probability of 41 %.
const READ: &str = "select f.id, f.secret_sealed, f.last_step, \
       greatest((select ceil(extract(epoch from x.at + interval '15 minutes' - now()))::int8 from auth.factor_failures x \
           where x.person_id = $1 order by x.at desc offset 4 limit 1), \
         (select ceil(extract(epoch from x.at + interval '1 day' - now()))::int8 from auth.factor_failures x \
           where x.person_id = $1 order by x.at desc offset 29 limit 1)) as wait \
     from (select) as one left join auth.factors f on f.person_id = $1 and f.kind = 'totp' \
       and (f.confirmed_at is not null) = $2";
const USE_STEP: &str = "update auth.factors set last_step = $2 where id = $1 and last_step < $2 returning id";
const USE_RECOVERY: &str = "update auth.recovery_codes set used_at = now() where person_id = $1 and hash = $2 \
     and used_at is null returning person_id as id";
const ADD_FAILURE: &str = "insert into auth.factor_failures (person_id) values ($1)";
const FORGET_FAILURES: &str =
    "delete from auth.factor_failures where person_id = $1 and at < now() - interval '1 day'";
const HAS: &str =
    "select exists (select from auth.factors where person_id = $1 and confirmed_at is not null) as has";

struct TotpRow {
    id: Option<Uuid>,
    secret_sealed: Option<Vec<u8>>,
    last_step: Option<i64>,
    wait: Option<i64>,
}
from_row!(TotpRow { id, secret_sealed, last_step, wait });

struct HasFactor {
    has: bool,
}
from_row!(HasFactor { has });

/// Whose code is to be proven, and of which factor.
pub(super) struct FactorClaim<'a> {
    pub(super) tenant: TenantId,
    pub(super) person: UserId,
    pub(super) code: &'a Secret<String>,
    /// Of the factor that is there, or of the one that is being set up.
    pub(super) confirmed: bool,
}

/// What somebody has typed.
enum Typed {
    Totp(String),
    Recovery(Vec<u8>),
    Neither,
}

impl Typed {
    fn of(code: &str) -> Self {
        let digits: String = code.chars().filter(|letter| *letter != ' ').take(7).collect();
        if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::Totp(digits);
        }
        recovery_hash(code).map_or(Self::Neither, Self::Recovery)
    }
}

/// Whether somebody has a second factor.
pub(super) async fn has_factor(system: &System, trace: &Trace, person: UserId) -> Result<bool> {
    let found: Option<HasFactor> = system.begin(trace).last().optional(HAS, &[&person]).await?;
    Ok(found.is_some_and(|found| found.has))
}

/// Proves a code, which is good once, on whichever instance (M-01), and counts a wrong one (M-03). What it counts stands, however
/// the request ends that asked.
///
/// # Errors
/// `identity.code_refused`, the same for every reason; `identity.too_many_codes` with the time to wait.
pub(super) async fn prove(
    app: &App,
    system: &System,
    trace: &Trace,
    claim: &FactorClaim<'_>,
) -> Result<Method> {
    let mut tx = system.begin(trace).within(claim.tenant).await?;
    let there: Option<()> = tx.optional(LOCK, &[&claim.person]).await?;
    if there.is_none() {
        tx.rollback();
        return Err(refused());
    }
    let typed = Typed::of(claim.code.expose());
    // One that nobody guesses lets its owner in while somebody else's wrong codes keep the others shut.
    if let (Typed::Recovery(hash), true) = (&typed, claim.confirmed) {
        let used: Option<()> = tx.optional(USE_RECOVERY, &[&claim.person, hash]).await?;
        if used.is_some() {
            tx.audit(&entry("identity.recovery_code_used", "success", claim))?;
            tx.commit().await?;
            return Ok(Method::Recovery);
        }
    }
    let row: TotpRow = tx.row(READ, &[&claim.person, &claim.confirmed]).await?;
    if let Some(wait) = row.wait.filter(|wait| *wait > 0) {
        tx.rollback();
        return Err(shut_out(trace, claim, wait));
    }
    if matches(app, claim, &typed, row, &mut tx).await? {
        tx.commit().await?;
        return Ok(Method::Totp);
    }
    fail(tx, trace, claim).await
}

/// Whether it is a code of the authenticator app, which nobody has used.
async fn matches(
    app: &App,
    claim: &FactorClaim<'_>,
    typed: &Typed,
    row: TotpRow,
    tx: &mut TenantTx<'_>,
) -> Result<bool> {
    let TotpRow { id: Some(id), secret_sealed: Some(sealed), last_step: Some(last), .. } = row else {
        return Ok(false);
    };
    let Typed::Totp(code) = typed else { return Ok(false) };
    let seed = TotpSeal::of(&app.config)?.open((claim.person, id), &sealed)?;
    let Some(step) = seed.matches(code, app.clock.now().as_second()).filter(|step| *step > last) else {
        return Ok(false);
    };
    let used: Option<()> = tx.optional(USE_STEP, &[&id, &step]).await?;
    Ok(used.is_some())
}

/// Counts a wrong code, and tells the auditor: there are thirty a day at most.
async fn fail(mut tx: TenantTx<'_>, trace: &Trace, claim: &FactorClaim<'_>) -> Result<Method> {
    let _: Vec<()> = tx.rows(FORGET_FAILURES, &[&claim.person]).await?;
    let _: Vec<()> = tx.rows(ADD_FAILURE, &[&claim.person]).await?;
    tx.audit(&entry("identity.factor_failed", "failure", claim))?;
    tx.commit().await?;
    security_event!(
        Severity::Medium,
        "A code of a second factor was wrong",
        action = "identity.factor_failed",
        tenant_id = %claim.tenant,
        user_id = %claim.person,
        ip = address(trace),
    );
    Err(refused())
}

fn shut_out(trace: &Trace, claim: &FactorClaim<'_>, wait: i64) -> Error {
    security_event!(
        Severity::High,
        "Codes of a second factor are refused: too many were wrong",
        action = "identity.factor_failed",
        tenant_id = %claim.tenant,
        user_id = %claim.person,
        ip = address(trace),
    );
    let wait = Duration::from_secs(wait.unsigned_abs());
    Error::new(&codes::TOO_MANY_CODES).retry_after(wait)
}

fn entry(action: &'static str, outcome: &'static str, claim: &FactorClaim<'_>) -> AuditEntry {
    AuditEntry {
        action,
        resource: "user",
        resource_id: Some(claim.person.to_string()),
        outcome,
        details: json!(null),
    }
}

/// The one answer for a code that is not good.
pub(super) fn refused() -> Error {
    Error::new(&codes::CODE_REFUSED)
}
