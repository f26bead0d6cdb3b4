//! What is wanted of a person before its session opens anything else.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use super::Methods;
use crate::error::{ErrorCode, codes};

/// Something that a person has to do before its session opens the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAction {
    /// To choose another password.
    ChangePassword,
    /// To use a second factor in this session, and to set one up before where there is none.
    SecondFactor,
    /// To accept the tenant's terms, in the version that it has now.
    AcceptTerms,
}

/// Some of them, or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequiredActions(u8);

/// What the database says of a principal's session and roles that decides what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonStanding {
    /// By what its person has proven who it is, in the session.
    pub proven: Methods,
    /// Whether a role that it holds demands a second factor.
    pub factor_by_role: bool,
    /// What an operator demands of its person, by its session.
    pub demanded: RequiredActions,
    /// The versions of the tenant's terms that it has accepted.
    pub terms: Vec<String>,
}

impl RequiredAction {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 3] = [Self::ChangePassword, Self::SecondFactor, Self::AcceptTerms];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChangePassword => "change-password",
            Self::SecondFactor => "second-factor",
            Self::AcceptTerms => "accept-terms",
        }
    }

    /// How a request is refused that it stands before.
    pub const fn code(self) -> &'static ErrorCode {
        match self {
            Self::ChangePassword => &codes::PASSWORD_CHANGE_REQUIRED,
            Self::SecondFactor => &codes::SECOND_FACTOR_REQUIRED,
            Self::AcceptTerms => &codes::TERMS_REQUIRED,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl RequiredActions {
    /// These, and one more where `wanted`.
    #[must_use]
    pub const fn and(self, action: RequiredAction, wanted: bool) -> Self {
        if wanted { Self(self.0 | action.bit()) } else { self }
    }

    /// These and those.
    #[must_use]
    pub const fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those of these words; what is not known is left out.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let known = |word: &str| RequiredAction::ALL.into_iter().find(|action| action.as_str() == word);
        words.into_iter().filter_map(known).fold(Self::default(), |all, action| all.and(action, true))
    }

    /// Whether nothing is wanted.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `action` is wanted.
    pub const fn has(self, action: RequiredAction) -> bool {
        self.0 & action.bit() != 0
    }

    /// Them, in the order in which they are done.
    pub fn iter(self) -> impl Iterator<Item = RequiredAction> {
        RequiredAction::ALL.into_iter().filter(move |action| self.has(*action))
    }

    /// What stands before a route that is open for `opens`: nothing, where one of those is what is wanted.
    pub(crate) fn before(self, opens: &[RequiredAction]) -> Option<RequiredAction> {
        if opens.iter().any(|action| self.has(*action)) { None } else { self.iter().next() }
    }
}

impl Serialize for RequiredAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Its words are a list that may become longer, so that a client shows what it does not know.
impl JsonSchema for RequiredAction {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RequiredAction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": Self::ALL.map(Self::as_str) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_stands_before_all_routes_but_those_that_do_it() {
        use RequiredAction::{AcceptTerms, ChangePassword, SecondFactor};
        let both = RequiredActions::of_words(["second-factor", "accept-terms", "of-a-newer-version"]);
        assert_eq!(both.iter().collect::<Vec<_>>(), [SecondFactor, AcceptTerms]);
        assert_eq!(both.before(&[]), Some(SecondFactor), "the first that is to be done");
        assert_eq!(both.before(&[ChangePassword]), Some(SecondFactor));
        for opens in [&[SecondFactor][..], &[AcceptTerms], &RequiredAction::ALL] {
            assert_eq!(both.before(opens), None);
        }
        for opens in [&[][..], &[SecondFactor], &RequiredAction::ALL] {
            assert_eq!(RequiredActions::default().before(opens), None, "nothing is wanted");
        }
        for action in RequiredAction::ALL {
            let alone = RequiredActions::default().and(action, true);
            assert_eq!(RequiredActions::of_words([action.as_str()]), alone);
            assert!(alone.has(action) && !alone.and(action, false).is_empty());
        }
    }
}
