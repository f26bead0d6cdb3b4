//! Where settings come from. The environment is a value: only [`ProcessEnvironment::read`] looks at the real one.

use std::collections::BTreeMap;
use std::fmt;

use super::SettingProblem;
use super::file::SecretFiles;

/// A place that holds values of settings.
pub trait Source {
    /// What kind of place it is.
    fn origin(&self) -> Origin;

    /// The text under `name`.
    fn get(&self, name: &str) -> Option<String>;

    /// All names it holds, ours or not.
    fn names(&self) -> Vec<String>;

    /// What is wrong with the place itself, such as a line of a file that is not understood. Default: nothing.
    fn problems(&self) -> &[SettingProblem] {
        &[]
    }

    /// What about the place wants an operator's attention. Default: nothing.
    fn warnings(&self) -> &[String] {
        &[]
    }
}

/// The kind of place a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag,
    /// A variable of the process.
    Environment,
    /// A `.env` file.
    EnvFile,
    /// The table.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "flag",
            Self::Environment => "environment",
            Self::EnvFile => ".env file",
            Self::Default => "default",
        })
    }
}

/// Values given by the program: flags of the command line, or the environment of a test.
#[derive(Clone)]
pub struct MapSource {
    origin: Origin,
    values: BTreeMap<String, String>,
}

impl MapSource {
    /// Values of command line flags, under the names of the settings they set.
    pub fn flags<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(Origin::Flag, values)
    }

    /// Values that count as the process's environment.
    pub fn environment<K: Into<String>, V: Into<String>>(values: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::new(Origin::Environment, values)
    }

    pub(super) fn new<K: Into<String>, V: Into<String>>(
        origin: Origin,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { origin, values }
    }
}

impl Source for MapSource {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }
}

/// The variables of this process, as they were when it was read.
pub struct ProcessEnvironment(MapSource);

impl ProcessEnvironment {
    /// Copies the process's variables. Bytes that are not UTF-8 become `U+FFFD`.
    #[allow(clippy::disallowed_methods)] // the one place that reads the process's environment
    pub fn read() -> Self {
        let values = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        Self(MapSource::environment(values))
    }
}

impl Source for ProcessEnvironment {
    fn origin(&self) -> Origin {
        self.0.origin()
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name)
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }
}

/// Sources by precedence: flag, environment, `.env` file; the table's default comes after the last one.
#[derive(Default)]
pub struct Layers {
    sources: Vec<Box<dyn Source>>,
    /// What the files of secrets held, whichever source names them.
    pub(super) secret_files: SecretFiles,
}

impl Layers {
    /// No source: every setting has its default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `source` below those already there.
    #[must_use]
    pub fn with(mut self, source: impl Source + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Puts `source` above those already there.
    #[must_use]
    pub fn under(mut self, source: impl Source + 'static) -> Self {
        self.sources.insert(0, Box::new(source));
        self
    }

    /// The same as [`Layers::with`] for a source that may not exist, such as a `.env` file.
    #[must_use]
    pub fn with_optional(self, source: Option<impl Source + 'static>) -> Self {
        match source {
            Some(source) => self.with(source),
            None => self,
        }
    }

    /// What is wrong with the sources themselves, whatever the settings are.
    pub fn problems(&self) -> impl Iterator<Item = &SettingProblem> {
        self.iter().flat_map(Source::problems)
    }

    /// The sources, the strongest first.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Source> {
        self.sources.iter().map(|source| &**source)
    }
}

impl<S: Source + 'static> From<S> for Layers {
    fn from(source: S) -> Self {
        Self::new().with(source)
    }
}
