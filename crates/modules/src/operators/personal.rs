//! What the platform holds of its operators.

use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};

/// The module's part of the register.
pub(super) const PERSONAL: &[PersonalData] = &[OPERATORS, FACTORS, RECOVERY_CODES, SESSIONS];

const OF_OPERATOR: Whose = Whose::Id("operator", "operator_id");
const PURPOSE: &str = "proving which operator signs in";

/// The row stays: what operators did is told by their ids.
const OPERATORS: PersonalData = PersonalData::new("auth.operators", Whose::Id("operator", "id"))
    .purpose("knowing who operates the platform", LegalBasis::LegitimateInterests)
    .kept("as long as the operator is one, and until it is erased")
    .columns(&[
        PersonalColumn::new("email", Category::Contact).erased_as("'erased-' || id || '@erp.invalid'"),
        PersonalColumn::new("phc", Category::Credential)
            .erased_as("case when phc is not null then 'erased' end"),
        PersonalColumn::new("secret_hash", Category::Credential)
            .erased_as("case when secret_hash is not null then sha256(id::text::bytea) end"),
    ]);

const FACTORS: PersonalData = PersonalData::new("auth.operator_factors", OF_OPERATOR)
    .purpose(PURPOSE, LegalBasis::LegitimateInterests)
    .kept("as long as the factor")
    .columns(&[PersonalColumn::new("secret_sealed", Category::Credential)])
    .impersonal(&[("kind", "one of a few words")])
    .deleted();

const RECOVERY_CODES: PersonalData = PersonalData::new("auth.operator_recovery_codes", OF_OPERATOR)
    .purpose(PURPOSE, LegalBasis::LegitimateInterests)
    .kept("as long as the factor")
    .columns(&[PersonalColumn::new("hash", Category::Credential)])
    .deleted();

const SESSIONS: PersonalData = PersonalData::new("auth.operator_sessions", OF_OPERATOR)
    .purpose("showing operators where they are signed in, and ending that", LegalBasis::LegitimateInterests)
    .kept("OPERATORS_SESSION_LIFETIME, and as long as nobody clears the table")
    .columns(&[
        PersonalColumn::new("device", Category::Device),
        PersonalColumn::new("address", Category::Device),
        PersonalColumn::new("secret_hash", Category::Credential),
    ])
    .deleted();
