//! The second factor: what a code is, how it is proven, and how few wrong ones are let through.

use std::time::Duration;

use erp_core::app::App;
use erp_core::auth::{Method, Trace, recovery_hash};
use erp_core::crypto::Keyring;
use erp_core::db::{AuditEntry, System, TenantTx};
use erp_core::error::{Error, Result};
use erp_core::from_row;
use erp_core::logging::Severity;
use erp_core::security_event;
use erp_core::shared::{Secret, TenantId, UserId};
use serde_json::json;
use uuid::Uuid;

use super::codes;
use super::seeds;
use super::session::address;

/// The statements that keep the second factors of one kind of holder: of people, or of operators.
pub(crate) struct FactorTables {
    /// One after the other: of a holder's attempts, wherever they come from, each sees how the one before it ended.
    pub(crate) lock: &'static str,
    /// The fifth failure within 15 minutes, and the thirtieth within a day, shut a holder's codes out until it is over. Five in 15
    /// minutes alone would let a thief of a password guess right within a year with a probability of 41 %.
    pub(crate) read: &'static str,
    pub(crate) use_step: &'static str,
    pub(crate) use_recovery: &'static str,
    pub(crate) add_failure: &'static str,
    pub(crate) forget_failures: &'static str,
    /// The table of the factors.
    pub(crate) factors: &'static str,
    /// Those whose seed is in the form from before there was a key of the platform, after one.
    pub(crate) of_before: &'static str,
    pub(crate) reseal: &'static str,
    pub(crate) enrol: &'static str,
    pub(crate) confirm: &'static str,
    pub(crate) remove: &'static str,
    pub(crate) remove_codes: &'static str,
    pub(crate) add_codes: &'static str,
}

/// The same statements for the tables of each kind of holder: its own, that of its factors, of its recovery codes and of its failures, and
/// the column by which those three name it.
macro_rules! factor_tables {
    ($holders:literal, $factors:literal, $codes:literal, $failures:literal, $of:literal) => {
        $crate::identity::facade::FactorTables {
            factors: $factors,
            of_before: concat!(
                "select id, ", $of, " as holder, secret_sealed from ", $factors, " where id > $1 \
                   and get_byte(secret_sealed, 0) = 1 order by id limit 200"
            ),
            reseal: concat!("update ", $factors, " as f set secret_sealed = $3 where id = $1 and secret_sealed = $2"),
            lock: concat!("select id from ", $holders, " where id = $1 and disabled_at is null for no key update"),
            read: concat!(
                "select f.id, f.secret_sealed, f.last_step, \
                   greatest((select ceil(extract(epoch from x.at + interval '15 minutes' - now()))::int8 from ", $failures, " x \
                       where x.", $of, " = $1 order by x.at desc offset 4 limit 1), \
                     (select ceil(extract(epoch from x.at + interval '1 day' - now()))::int8 from ", $failures, " x \
                       where x.", $of, " = $1 order by x.at desc offset 29 limit 1)) as wait \
                 from (select) as one left join ", $factors, " f on f.", $of, " = $1 and f.kind = 'totp' \
                   and (f.confirmed_at is not null) = $2"
            ),
            use_step: concat!("update ", $factors, " as f set last_step = $2 where id = $1 and last_step < $2 returning id"),
            use_recovery: concat!(
                "update ", $codes, " as c set used_at = now() where ", $of, " = $1 and hash = $2 and used_at is null returning hash"
            ),
            add_failure: concat!("insert into ", $failures, " (", $of, ") values ($1)"),
            forget_failures: concat!("delete from ", $failures, " where ", $of, " = $1 and at < now() - interval '1 day'"),
            enrol: concat!(
                "insert into ", $factors, " (id, ", $of, ", kind, secret_sealed) values ($1, $2, 'totp', $3) \
                 on conflict (", $of, ", kind) where confirmed_at is null \
                 do update set id = excluded.id, secret_sealed = excluded.secret_sealed, last_step = 0, created_at = now()"
            ),
            confirm: concat!(
                "update ", $factors, " as f set confirmed_at = now() where ", $of, " = $1 and confirmed_at is null \
                   and last_step > 0 and not exists (select from ", $factors, " where ", $of, " = $1 and confirmed_at is not null) \
                 returning id"
            ),
            remove: concat!("delete from ", $factors, " where ", $of, " = $1 returning id"),
            remove_codes: concat!("delete from ", $codes, " where ", $of, " = $1"),
            add_codes: concat!("insert into ", $codes, " (", $of, ", hash) select $1, unnest($2::bytea[])"),
        }
    };
}
pub(crate) use factor_tables;

/// Those of people.
pub(super) static OF_PEOPLE: FactorTables =
    factor_tables!("auth.people", "auth.factors", "auth.recovery_codes", "auth.factor_failures", "person_id");

/// Whether a person `p` has a second factor.
pub(super) const HAS_FACTOR: &str = "(exists (select from auth.factors f where f.person_id = p.id and f.confirmed_at is not null) \
       or exists (select from auth.passkeys k where k.person_id = p.id)) as has_factor";
const HAS: &str = "select exists (select from auth.factors where person_id = $1 and confirmed_at is not null) as totp, \
     exists (select from auth.passkeys where person_id = $1) as passkey";
/// Recovery codes stand for a factor: without one there is nothing to be recovered.
const DROP_SPARE_CODES: &str = "delete from auth.recovery_codes where person_id = $1 \
     and not exists (select from auth.factors where person_id = $1 and confirmed_at is not null) \
     and not exists (select from auth.passkeys where person_id = $1)";

struct TotpRow {
    id: Option<Uuid>,
    secret_sealed: Option<Vec<u8>>,
    last_step: Option<i64>,
    wait: Option<i64>,
}
from_row!(TotpRow { id, secret_sealed, last_step, wait });

/// What somebody can prove beside a password.
#[derive(Clone, Copy)]
pub(super) struct OwnFactors {
    pub(super) totp: bool,
    pub(super) passkey: bool,
}
from_row!(OwnFactors { totp, passkey });

impl OwnFactors {
    pub(super) const fn any(self) -> bool {
        self.totp || self.passkey
    }
}

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

/// Which second factors somebody has.
pub(super) async fn of(system: &System, trace: &Trace, person: UserId) -> Result<OwnFactors> {
    system.begin(trace).last().row(HAS, &[&person]).await
}

/// Whether somebody has a second factor.
pub(super) async fn has_factor(system: &System, trace: &Trace, person: UserId) -> Result<bool> {
    Ok(of(system, trace, person).await?.any())
}

/// Drops the recovery codes of somebody whose last factor is gone.
pub(super) async fn drop_spare_codes(tx: &mut TenantTx<'_>, person: UserId) -> Result<()> {
    let _: Vec<()> = tx.rows(DROP_SPARE_CODES, &[&person]).await?;
    Ok(())
}

/// How a code was judged.
pub(crate) enum CodeVerdict {
    /// It is right, and used now.
    Right(Method),
    /// It is wrong, and counted.
    Wrong,
    /// Too many were wrong: none is looked at for so many seconds.
    ShutOut(i64),
    /// The holder is there no more.
    Nobody,
}

/// A code, and of which factor it is to be: of the one that is there, or of the one that is being set up.
pub(crate) struct CodeGiven<'a> {
    pub(crate) holder: Uuid,
    pub(crate) code: &'a Secret<String>,
    pub(crate) confirmed: bool,
    /// The keys that open seeds.
    pub(crate) ring: Keyring,
}

/// Judges a code, which is good once, on whichever instance (M-01), and counts a wrong one (M-03). What was written is to be committed
/// where it is right or wrong, however the request ends that asked.
///
/// # Errors
/// As the database answers.
pub(crate) async fn judge(
    app: &App,
    tx: &mut TenantTx<'_>,
    tables: &FactorTables,
    given: &CodeGiven<'_>,
) -> Result<CodeVerdict> {
    let there: Option<()> = tx.optional(tables.lock, &[&given.holder]).await?;
    if there.is_none() {
        return Ok(CodeVerdict::Nobody);
    }
    let typed = Typed::of(given.code.expose());
    // One that nobody guesses lets its owner in while somebody else's wrong codes keep the others shut.
    if let (Typed::Recovery(hash), true) = (&typed, given.confirmed) {
        let used: Option<()> = tx.optional(tables.use_recovery, &[&given.holder, hash]).await?;
        if used.is_some() {
            return Ok(CodeVerdict::Right(Method::Recovery));
        }
    }
    let row: TotpRow = tx.row(tables.read, &[&given.holder, &given.confirmed]).await?;
    if let Some(wait) = row.wait.filter(|wait| *wait > 0) {
        return Ok(CodeVerdict::ShutOut(wait));
    }
    if matches(app, (given.holder, &typed, &given.ring), row, (tx, tables)).await? {
        return Ok(CodeVerdict::Right(Method::Totp));
    }
    let _: Vec<()> = tx.rows(tables.forget_failures, &[&given.holder]).await?;
    let _: Vec<()> = tx.rows(tables.add_failure, &[&given.holder]).await?;
    Ok(CodeVerdict::Wrong)
}

/// Whether it is a code of the authenticator app, which nobody has used.
async fn matches(
    app: &App,
    (holder, typed, ring): (Uuid, &Typed, &Keyring),
    row: TotpRow,
    (tx, tables): (&mut TenantTx<'_>, &FactorTables),
) -> Result<bool> {
    let TotpRow { id: Some(id), secret_sealed: Some(sealed), last_step: Some(last), .. } = row else {
        return Ok(false);
    };
    let Typed::Totp(code) = typed else { return Ok(false) };
    let seed = seeds::open(app, ring, tables.factors, (holder, id), &sealed).await?;
    let Some(step) = seed.matches(code, app.clock.now().as_second()).filter(|step| *step > last) else {
        return Ok(false);
    };
    let used: Option<()> = tx.optional(tables.use_step, &[&id, &step]).await?;
    Ok(used.is_some())
}

/// Proves a person's code, and tells the auditor of a wrong one: there are thirty a day at most.
///
/// # Errors
/// `identity.code_refused`, the same for every reason; `identity.too_many_codes` with the time to wait.
pub(super) async fn prove(
    app: &App,
    system: &System,
    trace: &Trace,
    claim: &FactorClaim<'_>,
) -> Result<Method> {
    let ring = seeds::keys(app).await?;
    let mut tx = system.begin(trace).within(claim.tenant).await?;
    let holder = *claim.person.as_uuid();
    let given = CodeGiven { holder, code: claim.code, confirmed: claim.confirmed, ring };
    match judge(app, &mut tx, &OF_PEOPLE, &given).await? {
        CodeVerdict::Right(method) => {
            if method == Method::Recovery {
                tx.audit(&entry("identity.recovery_code_used", "success", claim))?;
            }
            tx.commit().await?;
            Ok(method)
        }
        CodeVerdict::Wrong => fail(tx, trace, claim).await,
        CodeVerdict::ShutOut(wait) => {
            tx.rollback();
            Err(shut_out(trace, claim, wait))
        }
        CodeVerdict::Nobody => {
            tx.rollback();
            Err(refused())
        }
    }
}

async fn fail(mut tx: TenantTx<'_>, trace: &Trace, claim: &FactorClaim<'_>) -> Result<Method> {
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
