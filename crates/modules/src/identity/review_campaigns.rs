//! Reviews of access that begin by themselves each quarter, where a tenant wants that, and the mails that tell reviewers what is
//! undecided before it ends.

use erp_core::auth::TenantSetting;
use erp_core::db::TenantTx;
use erp_core::error::{Error, Result};
use erp_core::jobs::{Job, JobKind, JobOptions, Schedule};
use erp_core::mail::{MailTemplate, Recipient};
use erp_core::mail_template;
use erp_core::resource::Call;
use erp_core::shared::{Id, TenantId, Text};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::addressees::addressees;
use super::password_routes::{NAME, ProfileName};
use super::reviews::{self, AccessReview, AccessReviewRow};
use super::{REVIEW_ACCESS, REVIEWS, giver};

const NEVER: &str = "never";
const QUARTERLY: &str = "quarterly";
/// So long has a tenant for one that has begun by itself.
const LASTS: SignedDuration = SignedDuration::from_hours(30 * 24);
/// So long before its end reviewers are told again, the longest time first.
const AHEAD: [SignedDuration; 2] = [SignedDuration::from_hours(7 * 24), SignedDuration::from_hours(24)];

/// Whether reviews begin by themselves. What nobody confirms ends with them, so that nobody gets them who has not asked.
pub(super) static EVERY: TenantSetting<String> = TenantSetting::new(
    "identity.access_reviews",
    NEVER,
    "Whether a review of access begins by itself, on the first day of each quarter. Roles that nobody has confirmed within 30 days end.",
    &REVIEW_ACCESS,
)
.one_of(&[NEVER, QUARTERLY]);

/// Begins it, in a tenant that wants it.
pub(super) static BEGIN: JobKind<()> = JobKind::<()>::new(
    "identity.begin_review",
    "Begins a review of access by itself, in a tenant that wants one each quarter.",
    |job, ()| Box::pin(begin(job)),
)
.system(&REVIEWS)
.unhurried();

pub(super) static QUARTERS: Schedule = Schedule::for_each_tenant(
    "identity.quarterly_review",
    "Begins reviews of access, in tenants that want one each quarter.",
    "20 5 1 1,4,7,10 *",
    &BEGIN,
    &(),
);

/// Tells those who decide what is undecided.
pub(super) static REMIND: JobKind<ReviewToRemindOf> = JobKind::<ReviewToRemindOf>::new(
    "identity.remind_reviewers",
    "Tells by mail those who decide in a review of access what nobody has decided yet, before it ends.",
    |job, args| Box::pin(remind(job, args)),
)
.system(&REVIEWS)
.unhurried();

/// Which one.
#[derive(Serialize, Deserialize)]
pub(super) struct ReviewToRemindOf {
    tenant: TenantId,
    review: Id<AccessReviewRow>,
}

/// What the mail says.
pub(super) struct ReviewMail {
    tenant: String,
    review: String,
    undecided: i64,
    due: String,
}

pub(super) static DUE: MailTemplate<ReviewMail> = mail_template!(
    "identity.review_due", "Tells those who decide that roles in a review of access end, unless somebody confirms them.", ReviewMail,
    "en": { subject: "A review of access waits for you", text: "identity/mails/review_due.en.txt" },
    "de": { subject: "Eine Prüfung der Zugriffsrechte wartet auf Sie", text: "identity/mails/review_due.de.txt" },
);

/// Has reviewers told in time, as far as there is time.
///
/// # Errors
/// As jobs are enqueued.
pub(super) fn plan(
    call: &Call,
    tx: &mut TenantTx<'_>,
    (tenant, review): (TenantId, Id<AccessReviewRow>),
    (now, due): (Timestamp, Timestamp),
) -> Result<()> {
    for ahead in AHEAD {
        let at = due.checked_sub(ahead).map_err(Error::internal)?;
        if at > now {
            call.enqueue_with(
                tx,
                &REMIND,
                &ReviewToRemindOf { tenant, review },
                JobOptions::default().at(at),
            )?;
        }
    }
    Ok(())
}

async fn begin(job: &Job) -> Result<()> {
    let (call, tenant) = (&job.call, job.call.caller.tenant());
    if call.caller.entitlements().setting(&EVERY) != QUARTERLY {
        return Ok(());
    }
    let mut tx = job.system()?.begin(call.caller.trace()).within(tenant).await?;
    let now = giver::wait(&mut tx, tenant).await?;
    let due = now.checked_add(LASTS).map_err(Error::internal)?;
    let name = Text::parse(&quarter(job.scheduled_at().unwrap_or(now))).map_err(Error::internal)?;
    let begun = reviews::begun(call, &mut tx, (&name, None), (now, due)).await?;
    call.enqueue(&mut tx, &REMIND, &ReviewToRemindOf { tenant, review: begun.id() })?;
    tx.commit().await
}

/// As people call it: `2027 Q1`.
fn quarter(at: Timestamp) -> String {
    let date = at.to_zoned(jiff::tz::TimeZone::UTC);
    format!("{} Q{}", date.year(), (date.month() - 1) / 3 + 1)
}

async fn remind(job: &Job, ReviewToRemindOf { tenant, review }: ReviewToRemindOf) -> Result<()> {
    let (app, trace) = (&job.call.app, job.call.caller.trace());
    let mut tx = job.system()?.begin(trace).within(tenant).await?;
    let found = reviews::find(&mut tx, tenant, review).await?;
    let Some(open) = found.filter(AccessReview::wants_decisions) else {
        tx.rollback();
        return Ok(());
    };
    let ProfileName { name } = tx.row(NAME, &[&tenant]).await?;
    let mail = open.mail(name);
    for address in addressees(&mut tx, tenant, &REVIEW_ACCESS).await? {
        app.mail_to(&mut tx, trace, &DUE, &Recipient::new(address), &mail)?;
    }
    tx.commit().await
}

impl ReviewMail {
    pub(super) fn new(tenant: String, review: &str, undecided: i64, due: Timestamp) -> Self {
        let due = due.strftime("%Y-%m-%d %H:%M UTC").to_string();
        Self { tenant, review: review.to_owned(), undecided, due }
    }
}

#[cfg(test)]
mod tests {
    use super::quarter;

    #[test]
    fn a_quarter_is_called_by_its_year_and_number() {
        for (at, name) in [
            ("2027-01-01T05:20:00Z", "2027 Q1"),
            ("2027-03-31T23:59:59Z", "2027 Q1"),
            ("2027-04-01T00:00:00Z", "2027 Q2"),
            ("2027-12-31T23:59:59Z", "2027 Q4"),
        ] {
            assert_eq!(quarter(at.parse().unwrap()), name);
        }
    }
}
