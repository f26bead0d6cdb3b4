//! What the login holds: on each relation what the registry says, nowhere anything else.

use super::Question;

pub(super) const CHECKS: &[Question] = &[
    Question {
        id: "T-10 table-grants",
        what: "On a tenant table the login holds exactly the registered ones of SELECT, INSERT, UPDATE and DELETE.",
        sql: "select r.name, format('holds %s; registered: %s', coalesce(h.now, 'nothing'), array_to_string(r.privileges, ', '))
            from rel r left join lateral (select string_agg(distinct lower(h.privilege collate \"C\"), ', ') as now,
                array_agg(distinct lower(h.privilege collate \"C\")) as list from held h where h.oid = r.oid and h.on_column is null
                and h.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) h on true
            where r.kind = 'tenant' and not (coalesce(h.list, '{}') @> r.privileges and coalesce(h.list, '{}') <@ r.privileges)",
        fix: "revoke all on {object} from public, {role}; grant what app.relations says",
    },
    Question {
        id: "T-10 private-grants",
        what: "On a private table the login holds what the registry says: nothing, unless it is the system's.",
        sql: "select r.name, 'lacks ' || string_agg(p.privilege, ', ')
            from rel r, unnest(r.privileges) p (privilege) where r.kind = 'private' and not exists (
              select from held h where h.oid = r.oid and h.on_column is null and lower(h.privilege collate \"C\") = p.privilege)
            group by r.name",
        fix: "grant what app.relations says on {object} to {role}",
    },
    Question {
        id: "T-10 shared-writable",
        what: "On shared-read and member-scoped relations the login holds SELECT only, and the registry says so.",
        sql: "select r.name, 'the login may ' || array_to_string(array(select distinct lower(h.privilege collate \"C\") from held h
                where h.oid = r.oid and h.on_column is null union select unnest(r.privileges)), ', ')
            from rel r where r.kind in ('shared-read', 'member-scoped') and (not r.privileges <@ '{select}'
              or r.privileges = '{}' and exists (select from held h where h.oid = r.oid)
              or exists (select from held h where h.oid = r.oid and h.privilege in ('INSERT', 'UPDATE', 'DELETE')))",
        fix: "revoke insert, update, delete on {object} from public, {role}",
    },
    Question {
        id: "T-10 forbidden-grants",
        what: "No TRUNCATE, REFERENCES, TRIGGER, MAINTAIN or any later kind, and no grant option, on any relation.",
        sql: "select r.name, string_agg(distinct h.privilege || case when h.is_grantable then ' with grant option' else '' end, ', ')
            from rel r join held h on h.oid = r.oid where r.relkind <> 'S' and h.on_column is null
              and (h.is_grantable or h.privilege not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) group by r.name",
        fix: "revoke truncate, references, trigger on {object} from public, {role}; revoke grant option for all on {object} from {role}",
    },
    Question {
        id: "T-10 public-grants",
        what: "Nothing on a registered relation is granted to PUBLIC: every later role would have it.",
        sql: "select r.name, string_agg(distinct h.privilege, ', ') || ' to PUBLIC' from rel r join held h on h.oid = r.oid
            where r.kind is not null and h.grantee = 0 group by r.name",
        fix: "revoke all on {object} from public",
    },
    Question {
        id: "T-10 column-grants",
        what: "Privileges are held on whole relations, not on columns, where they are easily overlooked.",
        sql: "select r.name, string_agg(distinct format('%s (%s)', h.privilege, h.on_column), ', ')
            from rel r join held h on h.oid = r.oid where h.on_column is not null group by r.name",
        fix: "revoke the column privileges on {object} from public, {role}",
    },
    Question {
        id: "T-02 partition-grants",
        what: "The login holds nothing on a partition: it goes through the parent.",
        sql: "select r.name, string_agg(distinct h.privilege, ', ') from rel r join held h on h.oid = r.oid
            where r.oid in (select f.oid from family f where f.depth > 0) group by r.name",
        fix: "revoke all on {object} from public, {role}",
    },
    Question {
        id: "T-10 sequence-grants",
        what: "The login holds nothing on any sequence: sequences know no tenant.",
        sql: "select r.name, string_agg(distinct h.privilege, ', ') from rel r join held h on h.oid = r.oid
            where r.relkind = 'S' group by r.name",
        fix: "revoke all on sequence {object} from public, {role}",
    },
    Question {
        id: "T-10 schema-create",
        what: "The login can create objects in no schema.",
        sql: "select n.nspname, 'CREATE' from pg_namespace n, rt
            where n.nspname !~ '^pg_(toast|temp)' collate \"C\" and has_schema_privilege(rt.oid, n.oid, 'CREATE')",
        fix: "revoke create on schema {object} from public, {role}",
    },
    Question {
        id: "T-10 database-create",
        what: "The login can make neither schemas nor temporary tables, which would be found before the real ones.",
        sql: "select d.datname, word from pg_database d, rt, unnest('{CREATE,TEMPORARY}'::text[]) word
            where d.datname = current_database() and has_database_privilege(rt.oid, d.oid, word)",
        fix: "revoke create, temporary on database {object} from public, {role}",
    },
    Question {
        id: "T-10 default-privileges",
        what: "No default privileges hand future relations, functions or schemas to the login or PUBLIC.",
        sql: "select 'objects of ' || pg_get_userbyid(a.defaclrole), format('%s on %s', string_agg(distinct x.privilege_type, ', '),
                case a.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' else 'schemas' end)
            from pg_default_acl a, rt, aclexplode(a.defaclacl) x
            where x.grantee in (0, rt.oid) and a.defaclobjtype <> 'T' group by a.defaclrole, a.defaclobjtype",
        fix: "alter default privileges for role … revoke all on … from public, {role} ({object})",
    },
    Question {
        id: "T-10 parameter-grants",
        what: "The login may set no parameter that PostgreSQL reserves for superusers.",
        // pg_parameter_acl is there from version 15 on; its entries can be seen from here on every version.
        sql: "select pg_describe_object(d.classid, d.objid, 0), 'SET or ALTER SYSTEM' from pg_shdepend d, rt
            where d.refclassid = 'pg_authid'::regclass and d.refobjid = rt.oid and d.deptype = 'a' and d.classid = 6243",
        fix: "revoke set, alter system on {object} from {role}",
    },
    Question {
        id: "T-15 catalogue-access",
        what: "The login reads no restricted catalogue (passwords, statistics of values, large objects) nor a column of one, and writes none.",
        // initdb itself grants columns: those of pg_subscription that hold no password.
        sql: "select c.oid::regclass, string_agg(distinct x.privilege_type || coalesce(format(' (%s)', a.name), ''), ', ')
            from rt, pg_class c cross join lateral (select 0::smallint, null::name, c.relacl union all
                select a.attnum, a.attname, a.attacl from pg_attribute a where a.attrelid = c.oid and a.attacl is not null
              ) a (number, name, acl), aclexplode(a.acl) x
            where c.relnamespace = 'pg_catalog'::regnamespace and x.grantee in (0, rt.oid)
              and not exists (select from pg_init_privs i, aclexplode(i.initprivs) y where i.objoid = c.oid
                and i.classoid = 'pg_class'::regclass and i.objsubid = a.number
                and y.grantee in (0, x.grantee) and y.privilege_type = x.privilege_type) group by c.oid",
        fix: "revoke all on {object} from {role}; leave PUBLIC what initdb gave it",
    },
    Question {
        id: "T-15 restricted-functions",
        what: "The login executes no built-in function that PostgreSQL reserves: files, settings, replication, statistics.",
        sql: "select p.oid::regprocedure, 'EXECUTE' from pg_proc p join pg_init_privs i on i.objoid = p.oid
              and i.classoid = 'pg_proc'::regclass, rt
            where not exists (select from aclexplode(i.initprivs) y where y.grantee = 0)
              and has_function_privilege(rt.oid, p.oid, 'EXECUTE')
              and not (select l.rolsuper from logins l where l.rolname = current_user)",
        fix: "revoke execute on function {object} from public, {role}",
    },
    Question {
        id: "T-12 foreign-access",
        what: "The login may use no foreign server or foreign data wrapper.",
        sql: "select 'server ' || s.srvname, 'USAGE' from pg_foreign_server s, rt where has_server_privilege(rt.oid, s.oid, 'USAGE')
            union all select 'foreign data wrapper ' || w.fdwname, 'USAGE' from pg_foreign_data_wrapper w, rt
              where has_foreign_data_wrapper_privilege(rt.oid, w.oid, 'USAGE')",
        fix: "revoke usage on foreign {object} from public, {role}",
    },
    Question {
        id: "T-12 large-objects",
        what: "There is no large object that the login may read or write: they know no tenant.",
        sql: "select 'large object ' || o.oid, string_agg(distinct x.privilege_type, ', ')
            from pg_largeobject_metadata o, rt, aclexplode(o.lomacl) x
            where x.grantee in (0, rt.oid) and o.lomowner <> rt.oid group by o.oid",
        fix: "revoke all on {object} from public, {role}; keep files in a tenant table or an object store",
    },
];
