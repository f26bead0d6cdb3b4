use std::fmt;

use serde::Serialize;

use crate::lifecycle::{Exit, StartError};

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The setting's name, or the place in a file.
    pub name: String,
    /// What is wrong. Never holds a secret's value.
    pub message: String,
    /// What to do.
    pub fix: String,
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Each problem, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    pub(super) fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `{"problems": [{"name", "message", "fix"}]}`, for `config check --json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "problems": self.0 })
    }

    pub(super) fn add(
        &mut self,
        name: impl Into<String>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(Problem { name: name.into(), message: message.into(), fix: fix.into() });
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    /// One line for each problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { name, message, fix }) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let stop = if fix.ends_with('?') { "" } else { "." };
            write!(f, "{newline}{name}: {message}. {fix}{stop}")?;
        }
        Ok(())
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
