//! Privacy: what people have agreed to, what is held of somebody, and how that is forgotten.

mod consents;
mod erasures;
mod exports;
pub mod operator;

use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};
use erp_core::module::{Access, Module, Operation, Routes};
use erp_core::shared::IdKind;

/// The privacy module.
pub static MODULE: Module = Module {
    name: "privacy",
    about: "What people have agreed to, what is held of somebody, and how that is forgotten.",
    uses: &["identity"],
    permissions: PERMISSIONS,
    errors: ERRORS,
    routes,
    migrations: erp_core::migrations!["0001_consents", "0002_erasures"],
    samples: erp_core::samples!["consent_purposes", "consents", "erasures"],
    personal: &[CONSENTS, ERASURES],
    jobs: &[&erasures::ERASE, &erasures::REPLAY, &exports::WRITE],
    schedules: &[&erasures::EACH_MINUTE],
    files: &[&exports::FILE],
    system: SYSTEM,
    system_verbs: &[("privacy", &FORGET)],
    ..Module::BARE
};

/// What other modules use of this one.
pub mod facade {
    pub use super::consents::consented;
}

erp_core::permissions! {
    /// The permissions of the privacy module.
    pub PERMISSIONS {
        READ = "privacy.consent.read" to [Owner, Member, ReadOnly]: "List and read purposes of consent, and what people have said.";
        RECORD = "privacy.consent.record" to [Owner, Member]: "Record that somebody has agreed to something, or withdrawn it.";
        EXPORT = "privacy.subject.export" to [Owner]: "Export what is held of a subject.";
        ERASE = "privacy.subject.erase" to [Owner]: "Forget a subject, and read what was forgotten.";
        ASK = "privacy.purpose.write" to [Owner]: "Write what people are asked to agree to.";
    }
}

erp_core::system_work! {
    /// What is done with subjects as the system.
    SYSTEM {
        FORGET = "privacy": "Reads and forgets what is held of a subject, in tables that no request may change, and of people in all tenants.";
    }
}

erp_core::error_codes! {
    /// The codes of the privacy module.
    pub ERRORS in codes {
        NO_PURPOSE = "privacy.no_purpose", 422, "No such purpose", on consents [consents_purpose_fkey at "/purpose"];
            "There is no purpose of this name, or not this version of it.";
            "Name a version that there is: 'GET /api/v1/consent-purposes' lists them.";
        NO_SUBJECT_OF_TENANT = "privacy.no_subject_of_tenant", 409, "A person is no tenant's";
            "The subject is a person who is, or was, a member: its account is not this tenant's.";
            "End its membership; the operator of the platform exports what is held of a person, and forgets it.";
        PURPOSE_TAKEN = "privacy.purpose_taken", 409, "Another version has come", on consent_purposes [consent_purposes_name_key];
            "Somebody else has written a version of this purpose at the same time.";
            "Read it, and send yours again where it is still wanted.";
    }
}

/// Rows stay as evidence (GDPR, article 7 (1)): of somebody who is erased they have the id alone.
const CONSENTS: PersonalData = PersonalData::new("public.consents", Whose::Id("subject", "subject"))
    .purpose("showing who has agreed to what", LegalBasis::LegitimateInterests)
    .kept("as long as the tenant; how it is known, until the subject is erased")
    .columns(&[PersonalColumn::new("evidence", Category::Activity).erased_as("'erased'")])
    .impersonal(&[("purpose", "its name")]);

const ERASURES: PersonalData = PersonalData::new("public.erasures", Whose::Nobody)
    .purpose("finding what is held of a subject that is to be forgotten", LegalBasis::LegalObligation)
    .kept("until the erasure is done")
    .columns(&[PersonalColumn::new("addresses", Category::Contact)])
    .impersonal(&[
        ("reason", "one of a few words"),
        ("ordered_by", "an id"),
        ("report", "names of tables, and numbers"),
        ("receipt", "ids, names of tables, and numbers"),
    ]);

/// Somebody of whom something is held: known by the id that the module has which holds it.
#[derive(Debug)]
pub enum DataSubject {}

impl IdKind for DataSubject {
    const NAME: &'static str = "subject";
}

fn routes() -> Routes {
    let may = Access::Permission;
    Routes::new()
        .get("/api/v1/consent-purposes", may(&READ), consents::list_purposes)
        .doc(Operation::new("listConsentPurposes", "List what people are asked to agree to"))
        .post("/api/v1/consent-purposes", may(&ASK), consents::add_purpose)
        .doc(Operation::new("addConsentPurpose", "Add a version of a purpose").about(
            "The first of a name, or the next: none is ever changed. One that asks anew ends what was agreed to before.",
        ))
        .get("/api/v1/consent-purposes/{id}", may(&READ), consents::read_purpose)
        .doc(Operation::new("readConsentPurpose", "Read a version of a purpose"))
        .get("/api/v1/consents", may(&READ), consents::list)
        .doc(Operation::new("listConsents", "List what people have agreed to and withdrawn").about(
            "The history, the latest first; with `Accept: text/csv` whole. The latest row of a subject and a purpose counts.",
        ))
        .post("/api/v1/consents", may(&RECORD), consents::record)
        .doc(Operation::new("recordConsent", "Record that somebody has agreed, or withdrawn it").about(
            "With how that is known, as evidence. It is never changed: who withdraws gets a row more.",
        ))
        .get("/api/v1/consents/{id}", may(&READ), consents::read)
        .doc(Operation::new("readConsent", "Read what somebody has said"))
        .post("/api/v1/privacy/exports", may(&EXPORT), exports::begin)
        .system(&FORGET)
        .doc(Operation::new("exportSubject", "Export what is held of a subject").about(
            "A job writes it into a file, and its result names the file: JSON lines, and at the end a manifest with rows and SHA-256 of each \
             table. What is encrypted is opened.",
        ))
        .get("/api/v1/privacy/erasures", may(&ERASE), erasures::list)
        .doc(Operation::new("listErasures", "List orders to forget somebody"))
        .post("/api/v1/privacy/erasures", may(&ERASE), erasures::order)
        .system(&FORGET)
        .doc(Operation::new("eraseSubject", "Forget a subject, or see what would be forgotten").about(
            "202 with an order, which a job carries out: it ends with a signed receipt. With `?dryRun=true` nothing is changed, and 200 says what \
             would be.",
        ))
        .get("/api/v1/privacy/erasures/{id}", may(&ERASE), erasures::read)
        .doc(Operation::new("readErasure", "Read an order to forget somebody, with its receipt"))
}
