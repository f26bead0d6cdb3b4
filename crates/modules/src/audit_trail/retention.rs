//! For how long a tenant keeps which rows of its audit log, and the job that removes those whose time is over.

use erp_core::audit::{self, AuditRetention};
use erp_core::auth::TenantSetting;
use erp_core::error::Result;
use erp_core::jobs::{Job, JobKind, Schedule};

use super::{RETAIN, RETENTION};

/// A hundred years.
const MOST_DAYS: i64 = 36_525;

/// For how long rows stay that tell who got in and who may do what.
pub(super) static SECURITY_DAYS: TenantSetting<i64> = TenantSetting::new(
    "audit_trail.security_days",
    "0",
    "For how many days the audit log keeps rows that tell who got in and who may do what; 30 at least, or 0: for as long as the tenant.",
    &RETAIN,
)
.range(0, MOST_DAYS);

/// For how long rows stay that tell who has read data or taken it along.
pub(super) static ACCESS_DAYS: TenantSetting<i64> = TenantSetting::new(
    "audit_trail.access_days",
    "0",
    "For how many days the audit log keeps rows that tell who has read data or taken it along; 30 at least, or 0: for as long as the tenant.",
    &RETAIN,
)
.range(0, MOST_DAYS);

/// For how long all other rows stay.
pub(super) static CHANGE_DAYS: TenantSetting<i64> = TenantSetting::new(
    "audit_trail.change_days",
    "0",
    "For how many days the audit log keeps rows that tell what was changed; 30 at least, or 0: for as long as the tenant.",
    &RETAIN,
)
.range(0, MOST_DAYS);

/// Removes what is over, in a tenant.
pub(super) static PRUNE: JobKind<()> = JobKind::<()>::new(
    "audit_trail.prune",
    "Removes rows of the audit log that the tenant keeps no longer, and signs which these were.",
    |job, ()| Box::pin(prune(job)),
)
.system(&RETENTION)
.unhurried();

pub(super) static NIGHTLY: Schedule = Schedule::for_each_tenant(
    "audit_trail.retention",
    "Removes rows of audit logs that tenants keep no longer, but for what is on legal hold.",
    "25 4 * * *",
    &PRUNE,
    &(),
);

async fn prune(job: &Job) -> Result<()> {
    let caller = &job.call.caller;
    let entitled = caller.entitlements();
    let retention = AuditRetention {
        security: entitled.setting(&SECURITY_DAYS),
        access: entitled.setting(&ACCESS_DAYS),
        change: entitled.setting(&CHANGE_DAYS),
    };
    let pruned =
        audit::prune((&job.call.app, caller.trace()), job.system()?, caller.tenant(), &retention).await?;
    job.result(&pruned)
}
