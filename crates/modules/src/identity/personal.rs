//! What identity holds of people.

use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};

/// The module's part of the register.
pub(super) const PERSONAL: &[PersonalData] = &[
    PEOPLE,
    MEMBERSHIPS,
    PASSWORDS,
    ONE_TIME,
    FACTORS,
    RECOVERY_CODES,
    PASSKEYS,
    ADDRESS_CHANGES,
    IDENTITIES,
    SESSIONS,
    INVITATIONS,
    API_KEYS,
    TERMS,
];

const OF_PERSON: Whose = Whose::Id("person", "person_id");
const ACCOUNT: &str = "as long as the account";

const PEOPLE: PersonalData = PersonalData::new("auth.people", Whose::Id("person", "id"))
    .purpose("knowing who signs in", LegalBasis::Contract)
    .kept(ACCOUNT)
    .columns(&[
        PersonalColumn::new("email", Category::Contact).erased_as("'erased-' || id || '@erp.invalid'"),
        PersonalColumn::new("name", Category::Identity).erased_as("''"),
    ])
    .impersonal(&[("demanded", "one of a few words")]);

/// The row stays: who approved an order is told by its id.
const MEMBERSHIPS: PersonalData = PersonalData::new("public.memberships", Whose::Id("person", "user_id"))
    .purpose("knowing who works in a tenant", LegalBasis::Contract)
    .kept("as long as the tenant, or until the person is erased")
    .columns(&[
        PersonalColumn::new("email", Category::Contact).erased_as("'erased-' || user_id || '@erp.invalid'"),
        PersonalColumn::new("name", Category::Identity).erased_as("''"),
    ]);

const PASSWORDS: PersonalData =
    credential("auth.passwords").columns(&[PersonalColumn::new("phc", Category::Credential)]);

const ONE_TIME: PersonalData = credential("auth.one_time")
    .columns(&[PersonalColumn::new("hash", Category::Credential)])
    .impersonal(&[("kind", "one of a few words")]);

const FACTORS: PersonalData = credential("auth.factors")
    .columns(&[PersonalColumn::new("secret_sealed", Category::Credential)])
    .impersonal(&[("kind", "one of a few words")]);

const RECOVERY_CODES: PersonalData =
    credential("auth.recovery_codes").columns(&[PersonalColumn::new("hash", Category::Credential)]);

const PASSKEYS: PersonalData = credential("auth.passkeys").columns(&[
    PersonalColumn::new("name", Category::Device),
    PersonalColumn::new("credential", Category::Credential),
    PersonalColumn::new("public_key", Category::Credential),
]);

const ADDRESS_CHANGES: PersonalData = credential("auth.address_changes").columns(&[
    PersonalColumn::new("old_email", Category::Contact),
    PersonalColumn::new("new_email", Category::Contact),
    PersonalColumn::new("hash", Category::Credential),
    PersonalColumn::new("undo_hash", Category::Credential),
]);

const IDENTITIES: PersonalData = credential("auth.identities").columns(&[
    PersonalColumn::new("subject", Category::Identity),
    PersonalColumn::new("issuer", Category::Identity),
]);

const SESSIONS: PersonalData = PersonalData::new("public.sessions", Whose::Id("person", "principal_id"))
    .purpose("showing people where they are signed in, and ending that", LegalBasis::LegitimateInterests)
    .kept("until the session is over: IDENTITY_SESSION_LIFETIME at most")
    .columns(&[
        PersonalColumn::new("device", Category::Device),
        PersonalColumn::new("address", Category::Device),
        PersonalColumn::new("secret_hash", Category::Credential),
        PersonalColumn::new("cookie_hash", Category::Credential),
    ])
    .impersonal(&[
        ("key_id", "the name of a signing key"),
        ("key_before", "the name of a signing key"),
        ("amr", "by which means somebody signed in"),
        ("reason", "one of a few words"),
        ("operator_reason", "what an operator says of its own work"),
        ("demanded", "one of a few words"),
    ])
    .deleted();

const INVITATIONS: PersonalData = PersonalData::new("public.invitations", Whose::Address("email"))
    .purpose("letting somebody into a tenant", LegalBasis::Contract)
    .kept("as long as the tenant, or until the person is erased")
    .columns(&[
        PersonalColumn::new("email", Category::Contact).erased_as("'erased-' || id || '@erp.invalid'"),
        PersonalColumn::new("secret_hash", Category::Credential).erased_as("sha256(id::text::bytea)"),
    ])
    .impersonal(&[("roles", "names of roles")]);

const API_KEYS: PersonalData = PersonalData::new("public.api_keys", Whose::Id("person", "principal_id"))
    .purpose("knowing whose key it is, and from where it may be used", LegalBasis::Contract)
    .kept("as long as the tenant, or until the person is erased")
    .columns(&[
        PersonalColumn::new("name", Category::Activity).erased_as("'erased'"),
        PersonalColumn::new("allowed_networks", Category::Device),
        PersonalColumn::new("hash", Category::Credential).erased_as("sha256(id::text::bytea)"),
        PersonalColumn::new("previous_hash", Category::Credential)
            .erased_as("case when previous_hash is not null then sha256(id::text::bytea || 'x') end"),
    ])
    .impersonal(&[("scopes", "names of permissions")]);

const TERMS: PersonalData = PersonalData::new("public.terms_acceptances", Whose::Id("person", "user_id"))
    .purpose("showing that somebody has accepted the terms", LegalBasis::LegitimateInterests)
    .kept("until the person is erased")
    .columns(&[PersonalColumn::new("terms_version", Category::Activity)])
    .deleted();

const fn credential(relation: &'static str) -> PersonalData {
    PersonalData::new(relation, OF_PERSON)
        .purpose("proving who signs in", LegalBasis::Contract)
        .kept(ACCOUNT)
        .deleted()
}
