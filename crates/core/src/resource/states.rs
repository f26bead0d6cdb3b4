use std::fmt::Write as _;

use serde_json::Value;

use crate::auth::{Actor, Caller, Permission};
use crate::db::{FromRow, Row, RowError};
use crate::error::{Error, Result, Violation, ViolationParams, codes};
use crate::shared::PrincipalId;

/// The states that a table's documents go through. [`states!`](crate::states) makes it, and `app.states` in the migration
/// keeps the database to it.
#[derive(Debug)]
pub struct States {
    /// The table, without the schema.
    pub table: &'static str,
    /// The words of the column `status`; a document begins with the first.
    pub words: &'static [&'static str],
    /// What leads from one to another.
    pub transitions: &'static [&'static Transition],
}

/// A step of a document from one state to another, or to the same: from where, who may take it, and its parts of SQL.
#[derive(Debug)]
pub struct Transition {
    /// Its name in the audit log: `purchase_order.approved`.
    pub action: &'static str,
    /// The states in which it can be taken.
    pub from: &'static [&'static str],
    /// The state that it leads to.
    pub to: &'static str,
    /// Who may take it.
    pub permission: &'static Permission,
    /// The column that tells who has taken it: `approved_by`.
    pub by: &'static str,
    /// The columns that tell who must not take it, since they have taken those steps.
    pub unlike: &'static [&'static str],
    /// The assignments of the statement that takes it, where `$3` is who does.
    pub set: &'static str,
    /// The condition of that statement, where `$1` is the id and `$2` the versions of `If-Match`: of two who try at the
    /// same time, it holds for the first.
    pub when: &'static str,
    /// The whole statement, for a step that changes nothing more: `update … returning *`.
    pub update: &'static str,
    /// The statement that tells why the condition did not hold, with the same parameters.
    pub(crate) look: &'static str,
}

impl Transition {
    /// For [`states!`](crate::states), from `[action, to, by, set, when, update, look]`.
    #[doc(hidden)]
    pub const fn new(
        [action, to, by, set, when, update, look]: [&'static str; 7],
        from: &'static [&'static str],
        unlike: &'static [&'static str],
        permission: &'static Permission,
    ) -> Self {
        Self { action, from, to, permission, by, unlike, set, when, update, look }
    }

    /// The steps that exclude it: `created`, `revised`.
    pub fn earlier(&self) -> Vec<&'static str> {
        self.unlike.iter().map(|by| by.trim_end_matches("_by")).collect()
    }

    /// What the contract says of it.
    pub(crate) fn sentence(&self) -> String {
        let from = self.from.join("` or `");
        let mut text = if self.from == [self.to] {
            format!("While it is `{from}`.")
        } else {
            format!("From `{from}` to `{}`.", self.to)
        };
        if !self.unlike.is_empty() {
            let _ =
                write!(text, " By another person than those who have {} it.", self.earlier().join(" or "));
        }
        text
    }

    /// Who takes it: a principal with its permission. A step that excludes others is for a person in their own name, since
    /// that person's machines, and an operator in a person's place, would be a way to take both.
    ///
    /// # Errors
    /// `core.forbidden` without the permission, `core.separation_of_duties` for somebody who cannot be told from others.
    pub(crate) fn taker(&self, caller: &Caller) -> Result<PrincipalId> {
        caller.require(self.permission)?;
        let taker = match caller.actor() {
            Actor::Person(person) => Some(person.into()),
            actor if self.unlike.is_empty() => actor.principal(),
            _ => None,
        };
        let alone = "Only a person can do this, in their own name.";
        taker
            .ok_or_else(|| Error::new(&codes::SEPARATION_OF_DUTIES).detail(alone).needs(self.permission.name))
    }

    /// Why the statement has not found the document in the state and version that it asked for.
    pub(crate) fn refusal(&self, found: Option<DocumentStanding>) -> Error {
        match found {
            None => Error::new(&codes::NOT_FOUND),
            Some(DocumentStanding { is_current: false, .. }) => Error::new(&codes::STALE),
            Some(DocumentStanding { status, .. }) if !self.from.contains(&&*status) => {
                self.wrong_state(&status)
            }
            Some(DocumentStanding { is_theirs: true, .. }) => {
                Error::new(&codes::SEPARATION_OF_DUTIES).needs(self.permission.name)
            }
            Some(_) => Error::new(&codes::CONFLICT), // it has come back meanwhile
        }
    }

    fn wrong_state(&self, status: &str) -> Error {
        let allowed = self.from.join("' or '");
        let detail = format!("It is '{status}'; this can be done while it is '{allowed}'.");
        let params = ViolationParams {
            from: Some(status.to_owned()),
            to: Some(self.to.to_owned()),
            allowed: self.from.iter().map(|word| Value::from(*word)).collect(),
            ..ViolationParams::default()
        };
        let violation =
            Violation { pointer: "/status".to_owned(), code: "state", detail: detail.clone(), params };
        Error::new(&codes::WRONG_STATE).detail(detail).violation(violation)
    }
}

/// How a document stands that could not be moved.
pub(crate) struct DocumentStanding {
    status: String,
    /// It is in a version of `If-Match`.
    is_current: bool,
    /// The caller has taken a step that excludes this one.
    is_theirs: bool,
}

impl FromRow for DocumentStanding {
    fn from_row(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            status: row.try_get("status")?,
            is_current: row.try_get("is_current")?,
            is_theirs: row.try_get("is_theirs")?,
        })
    }
}

/// Declares the states of a document, and what leads from one to another.
///
/// ```
/// # use erp_core::{record, states, shared::{Id, PrincipalId, Version}};
/// # erp_core::permissions! { pub PERMISSIONS {
/// #     WRITE = "ordering.order.write" to [Owner, Member]: "Write orders.";
/// #     APPROVE = "ordering.order.approve" to [Owner]: "Approve orders.";
/// # } }
/// # record! { pub Order in "orders" as "order" { id: Id<Order>, status: Status, version: Version } }
/// states! {
///     /// The states of an order.
///     pub Status of Order {
///         Draft = "draft", Approved = "approved", Cancelled = "cancelled";
///         REVISION = "revised": [Draft] to Draft may WRITE;
///         APPROVAL = "approved": [Draft] to Approved may APPROVE unlike [created_by, revised_by];
///         CANCELLATION = "cancelled": [Draft, Approved] to Cancelled may WRITE;
///     }
/// }
/// assert_eq!(APPROVAL.action, "order.approved");
/// assert_eq!(APPROVAL.set, "status = 'approved', approved_by = $3");
/// ```
///
/// Makes the enum, as [`choice!`](crate::choice) does; a [`Transition`] of each line's name, whose parts of SQL the
/// statement is written with, and which [`Routes::transition`](crate::module::Routes::transition) and
/// [`Call::advance`](crate::resource::Call::advance) take; and `Status::STATES`, for the module's table. The table has a
/// column for each step that tells who took it: `approved_by uuid`.
#[macro_export]
macro_rules! states {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident of $record:ident {
            $($variant:ident = $word:literal),+ $(,)?;
            $($(#[$step_meta:meta])* $step:ident = $done:literal: [$($from:ident),+] to $to:ident may $permission:ident
                $(unlike [$($unlike:ident),+])?;)+
        }
    ) => {
        $crate::choice! {
            $(#[$meta])*
            $vis $name { $($variant = $word),+ }
        }

        impl $name {
            /// The states and transitions, for the module's table.
            $vis const STATES: &'static $crate::resource::States = &$crate::resource::States {
                table: <$record as $crate::resource::InTable>::TABLE,
                words: &[$($word),+],
                transitions: &[$(&$step),+],
            };
        }

        $(
            $(#[$step_meta])*
            #[doc = concat!("The step after which a document is ", $done, ".")]
            $vis static $step: $crate::resource::Transition = {
                use $crate::resource as r;

                const FROM: &[&str] = &[$($name::$from.as_str()),+];
                const UNLIKE: &[&str] = &[$($(stringify!($unlike)),+)?];
                const TO: &str = $name::$to.as_str();
                const BY: &str = concat!($done, "_by");
                const SET: &str = $crate::sql!["status = '", TO, "', ", BY, " = $3"];
                const WHEN: &str = $crate::const_text!(r::condition_of_step, FROM, UNLIKE);
                const TABLE: &str = <$record as r::InTable>::TABLE;
                const UPDATE: &str = $crate::sql!["update ", TABLE, " set ", SET, " where ", WHEN, " returning *"];
                const LOOK: &str = $crate::const_text!(r::look_at_step, TABLE, UNLIKE);
                const ACTION: &str =
                    $crate::sql![<$record as $crate::shared::IdKind>::NAME, ".", $done];
                r::Transition::new([ACTION, TO, BY, SET, WHEN, UPDATE, LOOK], FROM, UNLIKE, &$permission)
            };
        )+
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::DocumentStanding;
    use crate::auth::{Actor, Caller, Grants, PermissionTable, Role, Trace};
    use crate::record;
    use crate::shared::{Id, OperatorId, PrincipalId, TenantId, UserId, Version};

    crate::permissions! {
        /// Of these tests.
        PERMISSIONS {
            WRITE = "ordering.order.write" to [Member]: "Write.";
            APPROVE = "ordering.order.approve" to [Owner]: "Approve.";
        }
    }

    record! {
        /// An order.
        Order in "orders" as "order" { id: Id<Order>, status: Status, version: Version }
    }

    states! {
        /// Its states.
        Status of Order {
            Draft = "draft", Approved = "approved", Cancelled = "cancelled";
            REVISION = "revised": [Draft] to Draft may WRITE;
            APPROVAL = "approved": [Draft] to Approved may APPROVE unlike [created_by, revised_by];
            CANCELLATION = "cancelled": [Draft, Approved] to Cancelled may WRITE;
        }
    }

    #[test]
    fn a_step_has_the_parts_of_its_statement() {
        let states = Status::STATES;
        assert_eq!((states.table, states.words), ("orders", &["draft", "approved", "cancelled"][..]));
        assert_eq!(PERMISSIONS.len(), 2);
        assert_eq!(
            CANCELLATION.update,
            "update orders set status = 'cancelled', cancelled_by = $3 where id = $1 and ($2::bigint[] is null or \
             version = any ($2)) and status in ('draft', 'approved') returning *"
        );
        assert!(APPROVAL.when.ends_with("created_by is distinct from $3 and revised_by is distinct from $3"));
        assert_eq!((APPROVAL.action, APPROVAL.by), ("order.approved", "approved_by"));
    }

    #[test]
    fn a_step_says_what_it_is() {
        assert_eq!(REVISION.sentence(), "While it is `draft`.");
        assert_eq!(
            APPROVAL.sentence(),
            "From `draft` to `approved`. By another person than those who have created or revised it."
        );
    }

    /// A key of the author's, or an operator in another person's place, would be a second person otherwise.
    #[test]
    fn a_step_that_excludes_others_is_for_people_in_their_own_name() {
        let id = Uuid::from_u128(7);
        let (person, principal) = (UserId::from_uuid(id), PrincipalId::from_uuid(id));
        let operator = OperatorId::from_uuid(Uuid::from_u128(8));
        let table = Arc::new(PermissionTable::new([&WRITE, &APPROVE]));
        let caller = |role, actor| {
            let permissions = table.resolve(&Grants { built_in: vec![role], ..Grants::default() });
            Caller::new(TenantId::from_uuid(Uuid::from_u128(1)), actor, permissions, Trace::new("test"))
        };
        for (actor, may) in [
            (Actor::Person(person), true),
            (Actor::ServiceAccount(principal), false),
            (Actor::Key(principal), false),
            (Actor::Job { of: principal }, false),
            (Actor::Impersonator { operator, person }, false),
        ] {
            let taker = APPROVAL.taker(&caller(Role::Owner, actor)).map_err(|error| error.code().code);
            assert_eq!(taker, if may { Ok(principal) } else { Err("core.separation_of_duties") }, "{actor}");
            let taker = CANCELLATION.taker(&caller(Role::Member, actor));
            assert_eq!(taker.ok(), Some(principal), "{actor} takes a step that excludes nobody");
            let taker = APPROVAL.taker(&caller(Role::Member, actor)).map_err(|error| error.code().code);
            assert_eq!(taker, Err("core.forbidden"), "{actor} without the permission");
        }
    }

    /// A precondition comes before what it is about (RFC 9110, 13.2), and the state before the person.
    #[test]
    fn a_refusal_tells_the_first_reason() {
        let of = |status: &str, is_current, is_theirs| {
            let standing = DocumentStanding { status: status.to_owned(), is_current, is_theirs };
            APPROVAL.refusal(Some(standing)).code().code
        };
        assert_eq!(APPROVAL.refusal(None).code().code, "core.not_found");
        assert_eq!(of("approved", false, true), "core.stale");
        assert_eq!(of("approved", true, true), "core.wrong_state");
        assert_eq!(of("draft", true, true), "core.separation_of_duties");
        assert_eq!(of("draft", true, false), "core.conflict");
    }
}
