//! What the caller's tenant uses, and what its plan has.

use std::ops::RangeInclusive;

use axum::extract::State;
use erp_core::app::App;
use erp_core::auth::{Caller, Counting, EntitlementTable, Entitlements, Meter};
use erp_core::error::{Error, Result, Violation, codes as core};
use erp_core::extract::{Json, Query};
use erp_core::from_row;
use erp_core::shared::{Day, Days, LARGEST_EXACT};
use erp_core::usage::{DayUsage, READ_USAGE, StoredUsage, days_of, used_now};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest time that is shown at once.
const LONGEST: i32 = 366;

/// What is asked.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageQuery {
    /// The days, at most 366; by default those of the present month, up to today. Days are those of UTC.
    days: Option<Days>,
}

/// What is used of one thing that is counted.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeterUsage {
    #[schemars(example = &"catalog.items")]
    meter: &'static str,
    /// What is counted.
    about: &'static str,
    /// What one of them is called, in the plural.
    #[schemars(example = &"items")]
    unit: &'static str,
    /// Whether it is how much there is, and not how much has happened.
    is_total: bool,
    /// How much the plan has, of what happens on each day; null: as much as one likes.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    limit: Option<i64>,
    /// How much of it is used now; of what happens, today, up to a few seconds ago.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    used: i64,
    /// Each of the days.
    days: Vec<DayUsage>,
}

impl MeterUsage {
    /// Its name.
    pub const fn meter(&self) -> &'static str {
        self.meter
    }

    /// What one of them is called, in the plural.
    pub const fn unit(&self) -> &'static str {
        self.unit
    }

    /// How much the plan has.
    pub const fn limit(&self) -> Option<i64> {
        self.limit
    }

    /// How much is used now.
    pub const fn used(&self) -> i64 {
        self.used
    }

    /// Each of the days.
    pub fn days(&self) -> &[DayUsage] {
        &self.days
    }
}

/// All that is counted, module by module.
#[derive(Serialize, JsonSchema)]
pub(super) struct TenantUsage {
    meters: Vec<MeterUsage>,
}

/// The quota of files that is the tenant's own.
pub(super) const FILE_QUOTA: &str = "select quota from file_usage where tenant_id = $1";

pub(super) struct FileQuota {
    quota: Option<i64>,
}
from_row!(FileQuota { quota });

/// What a tenant has to itself.
pub(super) struct UsageLimits<'a> {
    pub(super) entitlements: &'a Entitlements,
    /// The tenant's own quota of files, and that of all.
    pub(super) files: (Option<FileQuota>, i64),
}

impl UsageLimits<'_> {
    fn of(&self, meter: &'static Meter) -> Option<i64> {
        let planned = self.entitlements.quota(meter);
        if meter.counting != Counting::Bytes {
            return planned;
        }
        let (own, of_all) = &self.files;
        own.as_ref().and_then(|own| own.quota).or(planned).or(Some(*of_all))
    }
}

/// `GET /api/v1/usage`.
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Query(asked): Query<UsageQuery>,
) -> Result<Json<TenantUsage>> {
    let today = app.usage_day()?;
    let days = span(asked.days, today)?;
    let mut tx = app.db.tenant_read(&caller);
    let own: Option<FileQuota> = tx.optional(FILE_QUOTA, &[&caller.tenant()]).await?;
    let until = today.max(*days.end());
    let rows: Vec<StoredUsage> =
        tx.last().rows(READ_USAGE, &[&caller.tenant(), days.start(), &until]).await?;
    let of_all = i64::try_from(app.config.files.tenant_quota.0).unwrap_or(LARGEST_EXACT);
    let limits = UsageLimits { entitlements: caller.entitlements(), files: (own, of_all) };
    Ok(Json(TenantUsage { meters: usage_of(app.entitlements.table(), &limits, &rows, (&days, today)) }))
}

/// What `rows` say of all meters.
pub(super) fn usage_of(
    table: &EntitlementTable,
    limits: &UsageLimits<'_>,
    rows: &[StoredUsage],
    (days, today): (&RangeInclusive<Day>, Day),
) -> Vec<MeterUsage> {
    let usage = table.meters().map(|meter| MeterUsage {
        meter: meter.name,
        about: meter.about,
        unit: meter.unit,
        is_total: meter.is_total(),
        limit: limits.of(meter),
        used: used_now(meter, rows, today),
        days: days_of(meter, rows, *days.start(), (*days.end()).min(today)),
    });
    usage.collect()
}

/// The days that are asked for: those of the present month unless it is said.
fn span(asked: Option<Days>, today: Day) -> Result<RangeInclusive<Day>> {
    let wrong = |what: String| Error::new(&core::INVALID).violation(Violation::new("?days", "range", what));
    let month = Day::new(today.date().first_of_month()).map_err(Error::internal)?;
    let Some(asked) = asked else { return Ok(month..=today) };
    let Some(first) = asked.first() else { return Err(wrong("has no first day".to_owned())) };
    let last = asked.last().unwrap_or(today).min(today).max(first);
    let length = first.date().until(last.date()).map_err(Error::internal)?.get_days();
    match length < LONGEST {
        true => Ok(first..=last),
        false => Err(wrong(format!("are more than {LONGEST} days"))),
    }
}
