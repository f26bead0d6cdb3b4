//! What core's own tables hold of people.

use crate::db::personal::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};

/// Core's part of the register.
pub(super) const CORE: &[PersonalData] = &[
    MAILS,
    MAIL_SUPPRESSIONS,
    FILES,
    IMPORT_REJECTIONS,
    AUDIT_LOG,
    AUDIT_ALERTS,
    IDEMPOTENCY_KEYS,
    EVENTS,
    JOB_READY,
    JOB_SCHEDULED,
    JOB_DEAD,
    JOB_DONE,
];

const MAILS: PersonalData = PersonalData::new("public.mails", Whose::Address("recipient"))
    .purpose("telling people what concerns them", LegalBasis::Contract)
    .kept("what it says MAIL_RETENTION_DAYS; that it was sent as long as the tenant")
    .columns(&[
        PersonalColumn::new("recipient", Category::Contact),
        PersonalColumn::new("recipient_name", Category::Identity),
        PersonalColumn::new("subject", Category::Communication),
        PersonalColumn::new("text", Category::Communication),
        PersonalColumn::new("html", Category::Communication),
    ])
    .impersonal(&[
        ("template", "its name"),
        ("locale", "the language that it is in"),
        ("message_id", "made of the mail's own id"),
        ("state", "one of a few words"),
        ("error", "the stage and the codes of a failure"),
    ])
    .deleted();

const MAIL_SUPPRESSIONS: PersonalData =
    PersonalData::new("public.mail_suppressions", Whose::Address("address"))
        .purpose("sending no more mail to addresses that want none", LegalBasis::LegalObligation)
        .kept("until it is taken back")
        .columns(&[PersonalColumn::new("address", Category::Contact)])
        .impersonal(&[("reason", "one of two words")])
        .deleted();

/// What a file says is its module's: a kind of file is declared with its purpose in docs/reference/files.md.
const FILES: PersonalData = PersonalData::new("public.files", Whose::Id("person", "created_by"))
    .purpose("knowing whose upload a file is", LegalBasis::LegitimateInterests)
    .kept("as long as the file")
    .columns(&[PersonalColumn::new("name", Category::Activity).erased_as("'file-' || id")])
    .impersonal(&[
        ("kind", "its name"),
        ("media_type", "one of a few"),
        ("sha256", "of the bytes"),
        ("content_key", "an encrypted key"),
    ]);

const IMPORT_REJECTIONS: PersonalData = PersonalData::new("public.import_rejections", Whose::Mentioned)
    .purpose("mending the lines that an import could not take", LegalBasis::Contract)
    .kept("as long as the job: JOB_RETENTION_DAYS")
    .columns(&[
        PersonalColumn::new("line", Category::Communication),
        PersonalColumn::new("errors", Category::Communication),
    ])
    .deleted();

/// Columns that are declared personal stand in it as values with a salt; what is sealed are commitments to them.
const AUDIT_LOG: PersonalData = PersonalData::new("public.audit_log", Whose::Nobody)
    .purpose("showing who has changed what", LegalBasis::LegalObligation)
    .kept("as long as the audit log; personal values until their subject is erased")
    .columns(&[PersonalColumn::new("client_ip", Category::Device)])
    .impersonal(&[
        ("actor", "an id"),
        ("action", "its name"),
        ("resource", "its name"),
        ("resource_id", "an id"),
        ("outcome", "one of a few words"),
        ("correlation_id", "made for the request"),
        ("before", "personal values stand apart in it, and an erasure finds them"),
        ("after", "personal values stand apart in it, and an erasure finds them"),
        ("details", "ids and numbers"),
        ("salt", "random"),
    ]);

/// What its events have in common can be an address.
const AUDIT_ALERTS: PersonalData = PersonalData::new("public.audit_alerts", Whose::Nobody)
    .purpose("finding misuse", LegalBasis::LegitimateInterests)
    .kept("as long as the audit log")
    .columns(&[
        PersonalColumn::new("key", Category::Device),
        PersonalColumn::new("note", Category::Communication),
    ])
    .impersonal(&[
        ("rule", "its name"),
        ("severity", "one of a few words"),
        ("about", "a sentence of the rule"),
        ("numbers", "numbers"),
    ]);

const IDEMPOTENCY_KEYS: PersonalData = PersonalData::new("public.idempotency_keys", Whose::Mentioned)
    .purpose("answering a request that is repeated as it was answered before", LegalBasis::Contract)
    .kept("IDEMPOTENCY_KEEP")
    .columns(&[PersonalColumn::new("body", Category::Communication)])
    .impersonal(&[
        ("principal", "an id"),
        ("route", "its template"),
        ("key", "made by the client for one request"),
        ("fingerprint", "a hash"),
        ("headers", "of the answer"),
    ])
    .deleted();

const EVENTS: PersonalData = PersonalData::new("public.events", Whose::Mentioned)
    .purpose("telling other systems what has happened", LegalBasis::Contract)
    .kept("EVENT_RETENTION_DAYS")
    .columns(&[PersonalColumn::new("payload", Category::Activity).erased_as("'{}'::jsonb")])
    .impersonal(&[
        ("name", "that of its kind"),
        ("aggregate", "its name"),
        ("origin", "made for the request"),
    ]);

const JOB_READY: PersonalData = job("public.job_ready", "until it has run").columns(WAITING);
const JOB_SCHEDULED: PersonalData = job("public.job_scheduled", "until it has run").columns(WAITING);
const JOB_DEAD: PersonalData = job("public.job_dead", "until somebody discards it").columns(WAITING);
const JOB_DONE: PersonalData =
    job("public.job_done", "JOB_RETENTION_DAYS").columns(ENDED).impersonal(OF_ENDED_JOB);

const WAITING: &[PersonalColumn] = &[
    PersonalColumn::new("args", Category::Activity),
    PersonalColumn::new("state", Category::Activity),
    PersonalColumn::new("error", Category::Activity),
];
const ENDED: &[PersonalColumn] = &[
    PersonalColumn::new("args", Category::Activity),
    PersonalColumn::new("state", Category::Activity),
    PersonalColumn::new("error", Category::Activity),
    PersonalColumn::new("result", Category::Activity),
];

const OF_JOB: &[(&str, &str)] = &[
    ("kind", "its name"),
    ("system", "the name of the work"),
    ("origin", "made for the request"),
    ("unique_key", "made of ids"),
];
const OF_ENDED_JOB: &[(&str, &str)] = &[
    ("kind", "its name"),
    ("system", "the name of the work"),
    ("origin", "made for the request"),
    ("unique_key", "made of ids"),
    ("outcome", "one of a few words"),
];

const fn job(relation: &'static str, kept: &'static str) -> PersonalData {
    PersonalData::new(relation, Whose::Mentioned)
        .purpose("doing later what somebody has asked for", LegalBasis::Contract)
        .kept(kept)
        .impersonal(OF_JOB)
        .deleted()
}
