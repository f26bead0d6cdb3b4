//! The register of personal data: which columns hold something of a person, declared in Rust beside the table, and written into
//! `app.personal_data` with the migrations. The audit log, the export of a subject, its erasure, `doctor privacy` and the record of
//! processing follow from it.

mod record;

pub use record::record_markdown;

/// What one table holds of people for one purpose. A module lists them in `Module::personal`:
///
/// ```
/// use erp_core::db::{Category, LegalBasis, PersonalColumn, PersonalData, Whose};
///
/// static CONTACTS: PersonalData = PersonalData::new("public.contacts", Whose::Id("contact", "id"))
///     .purpose("sending offers", LegalBasis::Contract)
///     .kept("as long as the contact")
///     .columns(&[
///         PersonalColumn::new("email", Category::Contact),
///         PersonalColumn::new("name", Category::Identity).erased_as("''"),
///     ])
///     .impersonal(&[("status", "one of the states of a contact")])
///     .deleted();
/// assert_eq!(CONTACTS.columns.len(), 2);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PersonalData {
    /// The table, with its schema: `public.contacts`.
    pub relation: &'static str,
    /// Whose the rows are.
    pub whose: Whose,
    /// What the columns are for, in a few words.
    pub purpose: &'static str,
    /// Why that is lawful.
    pub basis: LegalBasis,
    /// Until when they are kept, in a few words.
    pub kept: &'static str,
    /// The columns.
    pub columns: &'static [PersonalColumn],
    /// Columns of the table that could hold something of a person, and do not: each with the reason.
    pub impersonal: &'static [(&'static str, &'static str)],
    /// Whether the erasure of the subject deletes the rows; else it clears the columns.
    pub deleted: bool,
}

/// A column that holds something of a person.
#[derive(Debug, Clone, Copy)]
pub struct PersonalColumn {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub category: Category,
    /// What stands in it after an erasure: an expression of SQL over the row. Without one it becomes null.
    pub erased_as: Option<&'static str>,
}

/// Whose the rows of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The subject of this kind whose id stands in the column: `Id("person", "user_id")`.
    Id(&'static str, &'static str),
    /// Theirs who have the mail address that stands in the column.
    Address(&'static str),
    /// Theirs whose mail address stands somewhere in one of the columns: for what is kept as it came, such as the lines of an import.
    Mentioned,
    /// Nobody's that could be found: the rows go when their time is over.
    Nobody,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// Names, and numbers by which somebody is known.
    Identity,
    /// Where somebody is reached.
    Contact,
    /// What somebody signs in with: never exported.
    Credential,
    /// What somebody uses, and from where.
    Device,
    /// Accounts and payments.
    Bank,
    /// What was written to or by somebody.
    Communication,
    /// What somebody did or agreed to.
    Activity,
}

impl Category {
    /// Its word in the register.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Contact => "contact",
            Self::Credential => "credential",
            Self::Device => "device",
            Self::Bank => "bank",
            Self::Communication => "communication",
            Self::Activity => "activity",
        }
    }
}

/// Why it is lawful to keep something of a person (GDPR, article 6 (1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegalBasis {
    /// The person has agreed, and may take that back.
    Consent,
    /// A contract with the person needs it.
    Contract,
    /// A law wants it. An erasure leaves the columns alone as long as a [`RetentionDuty`] of the subject holds.
    LegalObligation,
    /// It protects the life of somebody.
    VitalInterests,
    /// It serves the public.
    PublicTask,
    /// It is needed, and nobody's interest stands against it.
    LegitimateInterests,
}

impl LegalBasis {
    /// Its words in the register.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Contract => "contract",
            Self::LegalObligation => "legal obligation",
            Self::VitalInterests => "vital interests",
            Self::PublicTask => "public task",
            Self::LegitimateInterests => "legitimate interests",
        }
    }
}

/// A law that wants data of some subjects to be kept: an erasure leaves alone what is kept by [`LegalBasis::LegalObligation`].
#[derive(Debug, Clone, Copy)]
pub struct RetentionDuty {
    /// The module's name, and what is kept: `purchasing.vouchers`.
    pub name: &'static str,
    /// The kind of subject: `supplier`.
    pub kind: &'static str,
    /// Which law, and for how long.
    pub law: &'static str,
    /// Whether it holds for the subject `$1`, in words of SQL: `exists (select …)`.
    pub holds: &'static str,
}

impl PersonalData {
    /// What a table holds of people. Say the rest, and end with the columns.
    pub const fn new(relation: &'static str, whose: Whose) -> Self {
        Self {
            relation,
            whose,
            purpose: "",
            basis: LegalBasis::Contract,
            kept: "",
            columns: &[],
            impersonal: &[],
            deleted: false,
        }
    }

    /// What it is for, and why that is lawful.
    #[must_use]
    pub const fn purpose(self, purpose: &'static str, basis: LegalBasis) -> Self {
        Self { purpose, basis, ..self }
    }

    /// Until when it is kept.
    #[must_use]
    pub const fn kept(self, kept: &'static str) -> Self {
        Self { kept, ..self }
    }

    /// The columns.
    #[must_use]
    pub const fn columns(self, columns: &'static [PersonalColumn]) -> Self {
        Self { columns, ..self }
    }

    /// Columns that hold nothing of a person, though they could: each with the reason.
    #[must_use]
    pub const fn impersonal(self, impersonal: &'static [(&'static str, &'static str)]) -> Self {
        Self { impersonal, ..self }
    }

    /// That the erasure of the subject deletes the rows.
    #[must_use]
    pub const fn deleted(self) -> Self {
        Self { deleted: true, ..self }
    }
}

impl PersonalColumn {
    /// A column that becomes null when its subject is erased.
    pub const fn new(name: &'static str, category: Category) -> Self {
        Self { name, category, erased_as: None }
    }

    /// What stands in it then: an expression of SQL over the row.
    #[must_use]
    pub const fn erased_as(self, expression: &'static str) -> Self {
        Self { erased_as: Some(expression), ..self }
    }
}

impl Whose {
    /// How the register says it: by what a row is found, the kind of the subject, and the column.
    pub const fn told(self) -> (&'static str, Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Id(kind, column) => ("id", Some(kind), Some(column)),
            Self::Address(column) => ("address", None, Some(column)),
            Self::Mentioned => ("mention", None, None),
            Self::Nobody => ("nobody", None, None),
        }
    }
}
