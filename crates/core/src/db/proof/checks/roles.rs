//! Who the login is: nothing it is, owns or inherits may lift it above row level security.

use super::Question;

pub(super) const CHECKS: &[Question] = &[
    Question {
        id: "T-01 role-attributes",
        what: "The login has no attribute that goes past row level security or makes new roles.",
        sql: "select l.rolname, concat_ws(', ', case when l.rolsuper then 'SUPERUSER' end,
                case when l.rolbypassrls then 'BYPASSRLS' end, case when l.rolcreaterole then 'CREATEROLE' end,
                case when l.rolcreatedb then 'CREATEDB' end, case when l.rolreplication then 'REPLICATION' end)
            from logins l
            where l.rolsuper or l.rolbypassrls or l.rolcreaterole or l.rolcreatedb or l.rolreplication",
        fix: "alter role {object} nosuperuser nobypassrls nocreaterole nocreatedb noreplication",
    },
    Question {
        id: "T-01 role-identity",
        what: "The session's user is the login itself, which did not change into it: RESET ROLE would change it back.",
        sql: "select session_user, 'acts as ' || current_user where session_user <> current_user",
        fix: "let DATABASE_URL and DATABASE_SYSTEM_URL name the logins themselves, without SET ROLE",
    },
    Question {
        id: "T-01 role-membership",
        what: "The login is a member of no role, directly or through others, predefined roles included.",
        sql: "select distinct reached.rolname, 'is open to the login'
            from (with recursive up (oid) as (
                    select m.roleid from pg_auth_members m where m.member in (select l.oid from logins l)
                    union select m.roleid from pg_auth_members m join up on up.oid = m.member)
                select up.oid from up) u
            join pg_roles reached on reached.oid = u.oid",
        fix: "revoke {object} from {role}",
    },
    Question {
        id: "T-01 role-owns",
        what: "The login owns nothing: no relation, schema, function, type, large object or database.",
        sql: "select pg_describe_object(d.classid, d.objid, d.objsubid), 'owned by ' || l.rolname
            from pg_shdepend d join logins l on l.oid = d.refobjid
            where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o'
              and d.dbid in (0, (select oid from pg_database where datname = current_database()))",
        fix: "give {object} to the owner role, and drop what {role} should not have been able to make",
    },
    Question {
        id: "T-01 owner-attributes",
        what: "No tenant or member table belongs to a superuser or a BYPASSRLS role: FORCE would mean nothing to it.",
        sql: "select r.name, 'owned by ' || o.rolname from rel r join pg_roles o on o.oid = r.relowner
            where (r.oid in (select t.oid from tenant t) or r.kind = 'member-scoped') and (o.rolsuper or o.rolbypassrls)",
        fix: "alter table {object} owner to the owner role, which is neither SUPERUSER nor BYPASSRLS",
    },
    Question {
        id: "T-01 role-settings",
        what: "No setting stored for the login or the database touches the tenant, row security, roles, triggers or the search path.",
        sql: "select coalesce(l.rolname, 'database ' || current_database()), setting
            from pg_db_role_setting s left join logins l on l.oid = s.setrole, unnest(s.setconfig) setting
            where (s.setrole = 0 or l.oid is not null)
              and (s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = current_database()))
              and setting collate \"C\" ~* '^(app[.]|row_security|search_path|role|session_authorization|session_replication_role|lo_compat_privileges|[a-z_]*preload_libraries)'",
        fix: "alter role {role} reset the setting, or alter database … reset it",
    },
    Question {
        id: "T-04 preset-context",
        what: "A connection outside a transaction carries no tenant, actor or other context, and row security is on.",
        sql: "select name, 'is ' || value from (values
                ('app.tenant_id', nullif(current_setting('app.tenant_id', true), '')),
                ('app.actor', nullif(current_setting('app.actor', true), '')),
                ('row_security', nullif(current_setting('row_security'), 'on')),
                ('session_replication_role', nullif(current_setting('session_replication_role'), 'origin')),
                ('lo_compat_privileges', nullif(current_setting('lo_compat_privileges'), 'off'))) s (name, value)
            where value is not null",
        fix: "remove {object} from the server's configuration, the connection's options and the pooler; set context with SET LOCAL only",
    },
];
