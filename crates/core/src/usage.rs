//! What tenants use, for their quotas and the bill: adds what processes have gathered, and reads what there is, day by day.

use std::time::Duration;

use jiff::ToSpan as _;
use serde::Serialize;

use crate::app::{App, FILE_BYTES, JOBS_RUN, MAILS_SENT, REQUESTS, UsageAddition};
use crate::auth::{Meter, Trace};
use crate::error::{Error, Result, codes};
use crate::from_row;
use crate::lifecycle::{Background, Stop, StopStage};
use crate::module::Module;
use crate::shared::{Day, LARGEST_EXACT, TenantId};

crate::system_work! {
    /// What is done about usage as the system.
    SYSTEM {
        ADD = "usage": "Adds what each process has counted to what all tenants have used; a statement for each request would cost more.";
    }
}

/// The core's part in what is counted, as a module.
pub(crate) static USAGE: Module = Module {
    name: "usage",
    about: "What tenants use.",
    meters: &[&REQUESTS, &JOBS_RUN, &MAILS_SENT, &FILE_BYTES],
    system: SYSTEM,
    system_background: &[("usage", &ADD)],
    background: &[&GATHERED],
    ..Module::BARE
};

/// Adds what was gathered.
static GATHERED: Background<App> = Background {
    name: "usage",
    about: "Adds what was counted in the last five seconds to what tenants have used, and at the stop what is left.",
    critical: true,
    stops: StopStage::Work,
    run: |app, stop| Box::pin(keep_adding(app, stop)),
    observe: |_| {},
};

/// How often.
const INTERVAL: Duration = Duration::from_secs(5);
/// So many rows go out with one statement.
const BATCH: usize = 1000;

/// In one order on all instances. A tenant that was erased meanwhile is passed over.
const ADD_ALL: &str = "insert into usage as u (tenant_id, day, meter, used) select t.id, x.day, x.meter, x.number \
     from unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[]) as x (tenant, day, meter, number) \
     join tenants t on t.id = x.tenant and t.status not in ('erasing', 'erased') order by t.id, x.meter, x.day \
     on conflict (tenant_id, meter, day) do update set used = u.used + excluded.used \
     returning tenant_id as tenant, meter, day, used";

struct AddedUsage {
    tenant: TenantId,
    meter: String,
    day: Day,
    used: i64,
}
from_row!(AddedUsage { tenant, meter, day, used });

/// Reads what one tenant, `$1`, has used from day `$2` to day `$3`: rows as [`StoredUsage`], for [`days_of`].
pub const READ_USAGE: &str = "select meter, day, used, most, false as is_now from usage where tenant_id = $1 and day between $2 and $3 \
     union all select meter, day, used, most, true from usage_totals where tenant_id = $1 \
     union all (select distinct on (meter) meter, day, used, most, false from usage \
       where tenant_id = $1 and day < $2 and most is not null order by meter, day desc)";

/// What is stored of one meter on one day.
#[derive(Debug)]
pub struct StoredUsage {
    meter: String,
    day: Day,
    used: i64,
    most: Option<i64>,
    /// It is what there is now.
    is_now: bool,
}
from_row!(StoredUsage { meter, day, used, most, is_now });

/// What was used on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct DayUsage {
    /// The day, in UTC.
    pub day: Day,
    /// What has happened on it; of what is kept, how much there was at its end.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub used: i64,
    /// Of what is kept, the most that there was on it.
    #[schemars(range(min = 0, max = LARGEST_EXACT))]
    pub most: Option<i64>,
}

/// How much is used of `meter` now; of what happens, on `today`.
pub fn used_now(meter: &Meter, rows: &[StoredUsage], today: Day) -> i64 {
    let counts = |row: &&StoredUsage| {
        row.meter == meter.name && (row.is_now || (!meter.is_total() && row.day == today))
    };
    rows.iter().find(counts).map_or(0, |row| row.used)
}

/// What was used of `meter` on each day from `first` to `last`. What is kept was there on days without a row, too, as on the last day
/// that has one.
pub fn days_of(meter: &Meter, rows: &[StoredUsage], first: Day, last: Day) -> Vec<DayUsage> {
    let mut own: Vec<_> = rows.iter().filter(|row| row.meter == meter.name).collect();
    own.sort_by_key(|row| row.day);
    let (mut own, mut kept, mut days) = (own.into_iter().peekable(), None, Vec::new());
    let mut day = Some(first).filter(|first| *first <= last);
    while let Some(today) = day {
        let mut row = None;
        while let Some(next) = own.next_if(|row| row.day <= today) {
            kept = Some(next.used);
            row = Some(next).filter(|row| row.day == today);
        }
        days.push(match row {
            Some(row) => DayUsage { day: today, used: row.used, most: row.most },
            None if meter.is_total() => {
                let kept = kept.unwrap_or_default();
                DayUsage { day: today, used: kept, most: Some(kept) }
            }
            None => DayUsage { day: today, used: 0, most: None },
        });
        let next = today.date().checked_add(1.day()).ok().and_then(|next| Day::new(next).ok());
        day = next.filter(|next| *next <= last);
    }
    days
}

impl App {
    /// Adds what was gathered to what the database knows. What cannot be added now is added the next time, unless nobody can tell
    /// whether it was: no tenant pays twice.
    pub async fn add_usage(&self) {
        let taken = self.usage.take();
        for batch in taken.chunks(BATCH) {
            match self.add_batch(batch).await {
                Ok(added) => {
                    for AddedUsage { tenant, meter, day, used } in added {
                        let named = batch.iter().map(|one| one.meter).find(|name| *name == meter);
                        named.into_iter().for_each(|meter| self.usage.learn(tenant, meter, day, used));
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "What tenants have used waits to be added"
                    );
                    if error.code() != &codes::OUTCOME_UNKNOWN {
                        self.usage.put_back(batch.to_vec());
                    }
                }
            }
        }
    }

    async fn add_batch(&self, batch: &[UsageAddition]) -> Result<Vec<AddedUsage>, Error> {
        let tenants: Vec<TenantId> = batch.iter().map(|one| one.tenant).collect();
        let days: Vec<Day> = batch.iter().map(|one| one.day).collect();
        let meters: Vec<&str> = batch.iter().map(|one| one.meter).collect();
        let numbers: Vec<i64> = batch.iter().map(|one| one.number).collect();
        // As the queue, whose statements are not logged one by one.
        let system = self.queue(&ADD);
        system.begin(&Trace::new("usage")).last().rows(ADD_ALL, &[&tenants, &days, &meters, &numbers]).await
    }
}

/// Adds every five seconds, and at the stop what is left.
async fn keep_adding(app: App, stop: Stop) {
    while stop.sleep(INTERVAL).await {
        app.add_usage().await;
    }
    app.add_usage().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    static ITEMS: Meter = Meter::rows("a.items", "items", "items", "Items.");
    static CALLS: Meter = Meter::happenings("a.calls", "calls", "Calls.");

    fn row(meter: &Meter, day: &str, used: i64, most: Option<i64>) -> StoredUsage {
        StoredUsage { meter: meter.name.to_owned(), day: Day::parse(day).unwrap(), used, most, is_now: false }
    }

    fn told(meter: &Meter, rows: &[StoredUsage]) -> Vec<(i64, Option<i64>)> {
        let (first, last) = (Day::parse("2026-02-27").unwrap(), Day::parse("2026-03-02").unwrap());
        days_of(meter, rows, first, last).into_iter().map(|day| (day.used, day.most)).collect()
    }

    #[test]
    fn what_is_kept_was_there_on_days_on_which_nothing_changed_and_what_happens_was_not() {
        let rows = [
            row(&ITEMS, "2026-03-01", 5, Some(9)),
            row(&ITEMS, "2026-01-15", 7, Some(8)),
            row(&CALLS, "2026-02-28", 3, None),
        ];
        assert_eq!(told(&ITEMS, &rows), [(7, Some(7)), (7, Some(7)), (5, Some(9)), (5, Some(5))]);
        assert_eq!(told(&CALLS, &rows), [(0, None), (3, None), (0, None), (0, None)]);
        assert_eq!(told(&ITEMS, &[]), [(0, Some(0)); 4]);
    }
}
