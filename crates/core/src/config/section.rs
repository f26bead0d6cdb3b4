//! Sections of settings, and the schema that a process's sections make together.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::RefUnwindSafe;
use std::sync::Arc;

use super::reader::Reader;
use super::settings::SECTIONS;
use super::{Config, Layers, Problems, SETTINGS, Setting, SettingProblem};
use crate::shared::is_same_text;

/// The values of one section, as [`settings!`](crate::settings) declares it.
pub trait Settings: Debug + RefUnwindSafe + Send + Sync + Sized + 'static {
    /// Its rows, in the order of the reference.
    const ROWS: &'static [Setting];
    /// What is judged of its settings taken together. Default: nothing.
    const RULES: Rules = |_| Vec::new();

    /// All fields, or `None` when one has no value; the reader holds the reasons.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// A section of a module's that its row in the product lists: [`settings!`](crate::settings) with `of MODULE` says so, and
/// does not compile where that is not true.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whose settings they are, and nobody may read them",
    note = "write `settings! {{ struct {Self} in \"…\" of MODULE; … }}`, and `settings: &[Section::of::<{Self}>()]` in that \
            module's row"
)]
pub trait ModuleSettings: Settings {}

/// Whether a module's row lists the section that has these rows.
pub const fn lists(sections: &[Section], rows: &[Setting]) -> bool {
    let mut index = 0;
    while index < sections.len() {
        if let ([first, ..], [wanted, ..]) = (sections[index].rows, rows)
            && is_same_text(first.name, wanted.name)
        {
            return true;
        }
        index += 1;
    }
    false
}

/// Says what is wrong with settings taken together. They are judged on what can be read ([`Reader::glance`]), whatever else
/// is wrong: all problems come in one message.
pub type Rules = fn(&Reader<'_>) -> Vec<SettingProblem>;

/// A section's values when its type is not known.
pub(super) type AnySettings = Arc<dyn AnySection>;

pub(super) trait AnySection: Any + Debug + RefUnwindSafe + Send + Sync {}

impl<S: Settings> AnySection for S {}

/// A section, for the table of a module.
#[derive(Clone, Copy)]
pub struct Section {
    pub(super) rows: &'static [Setting],
    pub(super) rules: Rules,
    pub(super) read: fn(&mut Reader<'_>) -> Option<AnySettings>,
}

impl Section {
    /// The section that `S` is.
    pub const fn of<S: Settings>() -> Self {
        Self {
            rows: S::ROWS,
            rules: S::RULES,
            read: |reader| S::read(reader).map(|settings| Arc::new(settings) as AnySettings),
        }
    }
}

/// Every setting that one process knows: the core's, then those of its modules.
#[derive(Clone, Default)]
pub struct SettingsSchema {
    modules: Vec<(&'static str, Section)>,
}

impl SettingsSchema {
    /// The core's settings alone.
    pub fn core() -> Self {
        Self::default()
    }

    /// The same with the sections of a module.
    #[must_use]
    pub fn with(mut self, module: &'static str, sections: &[Section]) -> Self {
        self.modules.extend(sections.iter().map(|section| (module, *section)));
        self
    }

    /// Reads every setting from `layers`.
    ///
    /// In development a missing `JWT_SECRET` stays `None`: see [`super::dev_secrets`].
    ///
    /// # Errors
    /// **All** problems at once: missing, invalid, weak, misspelt and twice declared settings. No message shows a secret's
    /// value.
    pub fn load(&self, layers: &Layers) -> Result<Config, Problems> {
        let mut reader = Reader::new(layers, self);
        reader.collect();
        reader.refuse_twice_declared();
        reader.refuse_unknown();
        let core = Config::read(&mut reader);
        let of_modules: Vec<_> =
            self.modules.iter().map(|(_, section)| (section.read)(&mut reader)).collect();
        reader.compare(self.sections());
        reader.notice_service_links();
        reader.notice_open_files();
        let of_modules = of_modules.into_iter().collect::<Option<_>>();
        let (given, secret_files) = (self.given(layers), self.secret_files(layers));
        reader.finish(core.zip(of_modules).map(|(core, of_modules)| Config {
            given,
            secret_files,
            of_modules,
            ..core
        }))
    }

    /// Every row, in the order of the reference.
    pub fn rows(&self) -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().chain(self.modules.iter().flat_map(|(_, section)| section.rows))
    }

    /// The chapters of the reference.
    pub(super) fn groups(&self) -> Vec<&'static str> {
        let mut groups: Vec<_> = Vec::new();
        for setting in self.rows() {
            if !groups.contains(&setting.group) {
                groups.push(setting.group);
            }
        }
        groups
    }

    fn sections(&self) -> impl Iterator<Item = &Section> {
        SECTIONS.iter().chain(self.modules.iter().map(|(_, section)| section))
    }

    /// Names that two rows claim, with whose rows these are: `CATALOG_LIMIT`, `catalog`, `orders`.
    pub(super) fn twice_declared(&self) -> Vec<(String, &'static str, &'static str)> {
        let core = SETTINGS.iter().map(|row| ("the core", row));
        let modules = self
            .modules
            .iter()
            .flat_map(|(owner, section)| section.rows.iter().map(move |row| (*owner, row)));
        let mut owners = BTreeMap::new();
        let mut twice = Vec::new();
        for (owner, row) in core.chain(modules) {
            for name in row.names() {
                match owners.get(&name) {
                    Some(first) => twice.push((name, *first, owner)),
                    None => drop(owners.insert(name, owner)),
                }
            }
        }
        twice
    }
}

impl Config {
    /// The settings of a module's section; `None` when no module of the product declares it.
    pub fn of_module<S: Settings>(&self) -> Option<&S> {
        self.of_modules.iter().find_map(|held| (&**held as &dyn Any).downcast_ref())
    }
}
