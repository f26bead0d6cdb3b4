//! The catalogue checks, declared once: what is asked, in SQL, and how a finding is mended.
//!
//! `docs/reference/isolation.md` is rendered from this table. A check reads the relations of `prelude.sql` and yields
//! `(object, detail)`, a row for each finding.

mod code;
mod grants;
mod policies;
mod roles;
mod tables;

pub(super) use tables::UNREGISTERED;

/// One question to the catalogue; every row that its query yields is a finding.
#[derive(Debug)]
pub struct Question {
    /// The statement of the security design it serves, and its own word: `T-02 force-rls`.
    pub id: &'static str,
    /// What has to hold, in one sentence.
    pub what: &'static str,
    /// Yields `(object, detail)` for everything that breaks it.
    pub sql: &'static str,
    /// What to do; `{object}` and `{role}` stand for the object and the login.
    pub fix: &'static str,
}

/// Every catalogue check, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Question> {
    [roles::CHECKS, tables::CHECKS, policies::CHECKS, grants::CHECKS, code::CHECKS].into_iter().flatten()
}

/// The one query that asks them all, yielding `('finding', id, object, detail)`.
pub(super) fn query() -> String {
    let branches: Vec<String> = all()
        .map(|check| {
            format!(
                "select 'finding', '{}', object::text, detail::text from ({}) as c (object, detail)",
                check.id, check.sql
            )
        })
        .collect();
    format!("{}{};", include_str!("../prelude.sql"), branches.join("\nunion all\n"))
}

/// The check of that id.
pub(super) fn find(id: &str) -> Option<&'static Question> {
    all().find(|check| check.id == id)
}
