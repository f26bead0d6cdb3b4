//! What a row of the settings table is made of, and the macro that turns rows into a type.

use super::Environment;

/// One setting: everything that is known about it before a value is read.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable's name, such as `DATABASE_URL`.
    pub name: &'static str,
    /// The field of its section that holds the value, such as `url`: the end of the name.
    pub field: &'static str,
    /// Another name under which it is accepted.
    pub alias: Option<&'static str>,
    /// What a value looks like, in words: `number`, `duration`, `development, staging or production`.
    pub kind: &'static str,
    /// What a bare number means, for durations.
    pub unit: Unit,
    /// Least and greatest value, both allowed, written as a value would be.
    pub range: Option<(&'static str, &'static str)>,
    /// The value that holds when nothing is set.
    pub default: Defaults,
    /// Whether the value must never be shown. A secret may also come from a file: `NAME_FILE` holds its path.
    pub secret: bool,
    /// What is checked beyond the type.
    pub check: Check,
    /// The environments in which it must be set.
    pub required_in: &'static [Environment],
    /// The settings that must be set when it is: set both or neither.
    pub along_with: &'static [&'static str],
    /// The chapter of the reference it stands in.
    pub group: &'static str,
    /// The lines of its documentation, untrimmed; [`Setting::doc`] is the text.
    pub doc_lines: &'static [&'static str],
}

/// What a bare number means in a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds: `15` is 15 s.
    Seconds,
    /// Milliseconds: `15` is 15 ms.
    Milliseconds,
}

/// A check beyond the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// None.
    Nothing,
    /// A `postgresql://` or `postgres://` URL with a host; outside development its password is judged too.
    PostgresUrl,
    /// Outside development: at least 32 bytes, no example, no repetition.
    Key,
    /// The same, and everywhere visible ASCII only: it is sent in a header.
    Token,
    /// Outside development: at least 8 bytes, and no example.
    Password,
    /// 32 bytes as base64 or hex; outside development no repetition.
    EncryptionKey,
    /// A `redis://` or `rediss://` URL; outside development its password is judged too.
    RedisUrl,
    /// An `https://` or `http://` URL without a query.
    HttpUrl,
    /// A name of the DNS or an IP address.
    Host,
    /// An e-mail address without a display name.
    Email,
}

/// The default in each environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    development: Option<&'static str>,
    elsewhere: Option<&'static str>,
}

/// For [`Setting::required_in`]: staging and production.
pub const OUTSIDE_DEVELOPMENT: &[Environment] = &[Environment::Staging, Environment::Production];

impl Defaults {
    /// No default.
    pub const NONE: Self = Self { development: None, elsewhere: None };

    /// The same default everywhere.
    pub const fn all(value: &'static str) -> Self {
        Self::split(value, value)
    }

    /// One default in development, another in staging and production.
    pub const fn split(development: &'static str, elsewhere: &'static str) -> Self {
        Self { development: Some(development), elsewhere: Some(elsewhere) }
    }

    /// The default in `environment`.
    pub const fn of(self, environment: Environment) -> Option<&'static str> {
        match environment {
            Environment::Development => self.development,
            Environment::Staging | Environment::Production => self.elsewhere,
        }
    }

    /// In words for the reference: `30s`, or `http in development, else info`.
    pub fn words(self) -> Option<String> {
        match (self.development, self.elsewhere) {
            (Some(same), Some(other)) if same == other => Some(same.to_owned()),
            (Some(development), Some(other)) => Some(format!("{development} in development, else {other}")),
            _ => None,
        }
    }
}

impl Setting {
    /// A row with nothing but its name: what [`settings!`](crate::settings) fills up.
    pub const fn named(name: &'static str) -> Self {
        Self {
            name,
            field: "",
            alias: None,
            kind: "text",
            unit: Unit::Seconds,
            range: None,
            default: Defaults::NONE,
            secret: false,
            check: Check::Nothing,
            required_in: &[],
            along_with: &[],
            group: "",
            doc_lines: &[],
        }
    }

    /// What it does, as one paragraph.
    pub fn doc(&self) -> String {
        self.doc_lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// Every name under which a value is accepted.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        [Some(self.name.to_owned()), self.alias.map(str::to_owned), self.file_name()].into_iter().flatten()
    }

    /// `NAME_FILE`, under which a secret's file is named; `None` for what is no secret.
    pub fn file_name(&self) -> Option<String> {
        self.secret.then(|| format!("{}_FILE", self.name))
    }

    /// What a value must be, in words: `a number from 1 to 1000`.
    pub fn expectation(&self) -> String {
        let mut words = self.kind.to_owned();
        if let Some((low, high)) = self.range {
            words.push_str(&format!(" from {low} to {high}"));
        }
        if self.kind == super::value::DURATION {
            words.push_str(match self.unit {
                Unit::Seconds => " (a bare number is seconds)",
                Unit::Milliseconds => " (a bare number is milliseconds)",
            });
        }
        words
    }
}

/// Declares one section of settings: a struct with a field for each row, and the table from which flags, `.env.example`,
/// the reference and `config explain` come.
///
/// A row is `/// doc` `NAME field: Type { alias: …, default: …, … };`, where the field is the end of the name and the braces
/// fill fields of [`Setting`](crate::config::Setting). After `in` stands the chapter of the reference; after `rules`,
/// optionally, a function that says what is wrong with the settings taken together, whatever single ones say.
///
/// A module names its section in its table, and its handlers read it from the app. `of` says in whose, so that one that is not
/// listed there does not compile:
///
/// ```
/// use erp_core::app::App;
/// use erp_core::config::Section;
/// use erp_core::error::Result;
/// use erp_core::module::Module;
///
/// erp_core::settings! {
///     /// How invoices are sent.
///     pub struct BillingSettings in "Billing" of BILLING;
///
///     /// How many days a customer has to pay.
///     BILLING_TERM_DAYS term_days: u32 { default: Defaults::all("30"), range: Some(("0", "365")) };
/// }
///
/// static BILLING: Module =
///     Module { name: "billing", settings: &[Section::of::<BillingSettings>()], ..Module::BARE };
///
/// fn due_in(app: &App) -> Result<u32> {
///     Ok(app.settings::<BillingSettings>()?.term_days)
/// }
/// ```
///
/// ```compile_fail,E0080
/// # use erp_core::module::Module;
/// erp_core::settings! {
///     /// How invoices are sent.
///     pub struct BillingSettings in "Billing" of BILLING;
///
///     /// How many days a customer has to pay.
///     BILLING_TERM_DAYS term_days: u32 { default: Defaults::all("30") };
/// }
///
/// static BILLING: Module = Module { name: "billing", ..Module::BARE }; // error: it lists no settings
/// ```
#[macro_export]
macro_rules! settings {
    ($(#[$meta:meta])* $vis:vis struct $section:ident in $group:literal $(of $module:path)? $(, rules $rules:path)?;
     $($(#[doc = $doc:literal])+ $name:ident $field:ident: $type:ty { $($row:ident: $value:expr),* $(,)? };)+) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $section {
            $($(#[doc = $doc])+ $vis $field: $type,)+
        }

        const _: () = {
            #[allow(unused_imports)] // what the rows of any section may name
            use $crate::config::{Check, Defaults, OUTSIDE_DEVELOPMENT, Unit};

            $(const $name: $crate::config::Setting = $crate::config::Setting {
                field: stringify!($field),
                kind: <$type as $crate::config::Value>::KIND,
                secret: <$type as $crate::config::Value>::SECRET,
                group: $group,
                doc_lines: &[$($doc),+],
                $($row: $value,)*
                ..$crate::config::Setting::named(stringify!($name))
            };)+

            $(
                impl $crate::config::ModuleSettings for $section {}

                const _: () = assert!(
                    $crate::config::lists($module.settings, <$section as $crate::config::Settings>::ROWS),
                    concat!(
                        stringify!($section), " is not in its module's row: add `settings: &[Section::of::<",
                        stringify!($section), ">()]` to ", stringify!($module)
                    )
                );
            )?

            impl $crate::config::Settings for $section {
                const ROWS: &'static [$crate::config::Setting] = &[$($name),+];
                $(const RULES: $crate::config::Rules = $rules;)?

                fn read(reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                    // Every row is read before the first `?`, so that all problems come out at once.
                    $(let $field = reader.value(&$name);)+
                    Some(Self { $($field: $field?),+ })
                }
            }
        };
    };
}
