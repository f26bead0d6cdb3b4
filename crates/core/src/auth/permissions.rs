//! What a caller may do: a set of the permissions that the binary declares, resolved from the roles that it holds.
//!
//! Permissions are stored by name, and numbered anew in each process. A name that no module declares allows nothing: its
//! module was removed, or is newer than this process.

use std::collections::HashMap;
use std::sync::Arc;

use super::numbered::Numbered;
use super::{Networks, Permission, PersonStanding, Role};
use crate::shared::PrincipalId;

/// Every permission of every module, numbered.
#[derive(Debug, Default)]
pub struct PermissionTable {
    all: Numbered<Permission>,
    by_name: HashMap<&'static str, usize>,
}

/// The roles that a principal holds in a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Those of the roles that every tenant has.
    pub built_in: Vec<Role>,
    /// The tenant's own.
    pub own: Vec<OwnRole>,
    /// Whose they are: of a key, and of a job that a key has enqueued, the person or service account behind it.
    pub principal: Option<PrincipalId>,
    /// Where requests of a key come from; of others that is not said.
    pub networks: Networks,
    /// What decides whether something is wanted of it before it does anything else.
    pub standing: PersonStanding,
}

/// A role of a tenant's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRole {
    /// Its name, as the tenant calls it.
    pub name: String,
    /// The names of the permissions that it gives.
    pub permissions: Vec<String>,
}

/// A set of permissions, and the roles that it comes from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Permissions(Arc<Resolved>);

#[derive(Debug)]
struct Resolved {
    table: Arc<PermissionTable>,
    bits: Box<[u64]>,
    roles: Vec<String>,
    principal: Option<PrincipalId>,
    networks: Networks,
    standing: PersonStanding,
}

impl PermissionTable {
    /// Numbers the permissions in their order.
    pub fn new(permissions: impl IntoIterator<Item = &'static Permission>) -> Self {
        let all = Numbered::new(permissions);
        let by_name = all.iter().enumerate().map(|(number, permission)| (permission.name, number)).collect();
        Self { all, by_name }
    }

    /// All of them, in the order of the modules.
    pub fn iter(&self) -> impl Iterator<Item = &'static Permission> {
        self.all.iter()
    }

    /// The permission of this name, if a module declares it.
    pub fn find(&self, name: &str) -> Option<&'static Permission> {
        self.by_name.get(name).and_then(|number| self.all.get(*number))
    }

    fn number(&self, permission: &'static Permission) -> Option<usize> {
        self.all.number(permission).or_else(|| self.by_name.get(permission.name).copied())
    }

    /// What these roles allow.
    pub fn resolve(self: &Arc<Self>, grants: &Grants) -> Permissions {
        let mut bits = vec![0_u64; self.all.len().div_ceil(64)].into_boxed_slice();
        let mut allow = |number: usize| {
            if let Some(word) = bits.get_mut(number / 64) {
                *word |= 1 << (number % 64);
            }
        };
        for (number, permission) in self.all.iter().enumerate() {
            if grants.built_in.iter().any(|role| role.has(permission)) {
                allow(number);
            }
        }
        for name in grants.own.iter().flat_map(|role| &role.permissions) {
            if let Some(number) = self.by_name.get(name.as_str()) {
                allow(*number);
            }
        }
        let built_in = grants.built_in.iter().map(|role| role.as_str().to_owned());
        let roles = built_in.chain(grants.own.iter().map(|role| role.name.clone())).collect();
        let Grants { principal, networks, standing, .. } = grants;
        let (table, principal) = (Arc::clone(self), *principal);
        let (networks, standing) = (networks.clone(), standing.clone());
        Permissions(Arc::new(Resolved { table, bits, roles, principal, networks, standing }))
    }
}

impl Permissions {
    /// Of nobody.
    pub fn none() -> Self {
        Self(Arc::new(Resolved {
            table: Arc::default(),
            bits: Box::default(),
            roles: Vec::new(),
            principal: None,
            networks: Networks::default(),
            standing: PersonStanding::default(),
        }))
    }

    /// Where requests that have them come from.
    pub fn networks(&self) -> &Networks {
        &self.0.networks
    }

    /// The person or the service account whose they are.
    pub fn principal(&self) -> Option<PrincipalId> {
        self.0.principal
    }

    /// What decides whether something is wanted of whose they are.
    pub fn standing(&self) -> &PersonStanding {
        &self.0.standing
    }

    /// Whether `permission` is among them.
    pub fn contains(&self, permission: &'static Permission) -> bool {
        self.0.table.number(permission).is_some_and(|number| self.has(number))
    }

    /// Whether all of `others` are among them: nobody gives more than he has.
    pub fn include(&self, others: &Self) -> bool {
        let theirs = others.0.table.all.iter().enumerate().filter(|(number, _)| others.has(*number));
        theirs.map(|(_, permission)| permission).all(|permission| self.contains(permission))
    }

    fn has(&self, number: usize) -> bool {
        self.0.bits.get(number / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Their names, in alphabetical order, whatever the order of the modules is.
    pub fn names(&self) -> Vec<&'static str> {
        let all = self.0.table.all.iter().enumerate();
        let held = all.filter(|(number, _)| self.has(*number)).map(|(_, permission)| permission.name);
        let mut names: Vec<&'static str> = held.collect();
        names.sort_unstable();
        names
    }

    /// The names of the roles that they come from, those that every tenant has first.
    pub fn roles(&self) -> &[String] {
        &self.0.roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static READ: Permission = Permission {
        name: "a.thing.read",
        what: "",
        roles: &[Role::Owner, Role::ReadOnly],
        owners_alone: false,
    };
    static CHANGE: Permission =
        Permission { name: "a.thing.change", what: "", roles: &[Role::Owner], owners_alone: true };
    static ELSEWHERE: Permission =
        Permission { name: "b.thing.read", what: "", roles: &[Role::Owner], owners_alone: false };

    fn table() -> Arc<PermissionTable> {
        Arc::new(PermissionTable::new([&READ, &CHANGE]))
    }

    fn own(name: &str, permissions: &[&str]) -> OwnRole {
        OwnRole {
            name: name.to_owned(),
            permissions: permissions.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn what_roles_allow_is_what_the_binary_and_the_tenant_say() {
        let grants = Grants { built_in: vec![Role::ReadOnly], ..Grants::default() };
        let reader = table().resolve(&grants);
        assert!(reader.contains(&READ) && !reader.contains(&CHANGE));
        assert_eq!((reader.names(), reader.roles()), (vec!["a.thing.read"], &["read-only".to_owned()][..]));
        let grants =
            Grants { own: vec![own("Storekeeper", &["a.thing.change", "gone.thing.read"])], ..grants };
        let keeper = table().resolve(&grants);
        assert!(keeper.contains(&READ) && keeper.contains(&CHANGE));
        assert_eq!(keeper.roles(), ["read-only", "Storekeeper"]);
    }

    #[test]
    fn administrators_and_auditors_follow_from_owners_and_those_who_look_on() {
        let of = |role| table().resolve(&Grants { built_in: vec![role], ..Grants::default() });
        let [owner, administrator, member, auditor, reader] = Role::ALL.map(of);
        assert_eq!(owner.names(), ["a.thing.change", "a.thing.read"]);
        assert_eq!(administrator.names(), ["a.thing.read"], "the other is the owners' alone");
        assert_eq!((auditor.names(), member.names()), (reader.names(), Vec::new()));
        assert!(owner.include(&administrator) && !administrator.include(&owner));
        assert!(administrator.include(&auditor) && administrator.include(&Permissions::none()));
    }

    #[test]
    fn what_nobody_has_granted_or_no_module_declares_is_not_allowed() {
        let owner = table().resolve(&Grants { built_in: vec![Role::Owner], ..Grants::default() });
        assert!(!owner.contains(&ELSEWHERE), "of a module that is not built in");
        let nobody = table().resolve(&Grants::default());
        assert!(!nobody.contains(&READ) && !Permissions::none().contains(&READ));
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a table of permissions is static, and this one is made by the test"
    )]
    fn a_set_is_as_wide_as_the_table() {
        let named = |n| Permission {
            name: String::leak(format!("m.p{n:04}.read")),
            what: "",
            roles: &[],
            owners_alone: false,
        };
        let many: &'static [Permission] = Vec::leak((0..3000).map(named).collect());
        let table = Arc::new(PermissionTable::new(many));
        let granted: Vec<String> = (0..3000).step_by(7).map(|n| format!("m.p{n:04}.read")).collect();
        let own = vec![OwnRole { name: "x".to_owned(), permissions: granted.clone() }];
        let set = table.resolve(&Grants { own, ..Grants::default() });
        assert_eq!(set.names(), granted);
        assert!(many.iter().enumerate().all(|(n, permission)| set.contains(permission) == (n % 7 == 0)));
    }
}
