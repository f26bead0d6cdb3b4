use std::fmt;

use serde::Serialize;

use crate::lifecycle::{Exit, StartError};

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingProblem {
    /// The setting's name, or the place in a file.
    pub name: String,
    /// What is wrong. Never holds a secret's value.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<SettingProblem>,
    /// What is said along with them: it may be the reason for one.
    pub(super) warnings: Vec<String>,
}

impl Problems {
    /// Each problem, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &SettingProblem> {
        self.problems.iter()
    }

    pub(super) fn as_slice(&self) -> &[SettingProblem] {
        &self.problems
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// `{"problems": [{"name", "message", "fix"}], "warnings": ["…"]}`, for `config check --json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "problems": self.problems, "warnings": self.warnings })
    }

    pub(super) fn add(
        &mut self,
        name: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.push(SettingProblem { name: name.into(), message: message.into(), fix: fix.into() });
    }

    pub(super) fn push(&mut self, problem: SettingProblem) {
        self.problems.push(problem);
    }
}

impl From<SettingProblem> for Problems {
    fn from(problem: SettingProblem) -> Self {
        Self { problems: vec![problem], warnings: Vec::new() }
    }
}

impl fmt::Display for Problems {
    /// One line for each problem, and then for each warning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, SettingProblem { name, message, fix }) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let stop = if fix.ends_with('?') { "" } else { "." };
            write!(f, "{newline}{name}: {message}. {fix}{stop}")?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for StartError {
    fn from(problems: Problems) -> Self {
        let list = problems.to_string();
        Self::new(
            Exit::Configuration,
            match problems.len() {
                1 => list,
                many => format!("{many} settings are not right:\n  {}", list.replace('\n', "\n  ")),
            },
        )
    }
}
