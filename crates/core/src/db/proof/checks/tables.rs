//! The shape of a tenant's table: registered, forced, keyed, and referenced by tenant.

use super::Question;

/// A table that nobody but the owner can reach, and that no registry knows of.
pub(in crate::db::proof) const UNREGISTERED: &str = "R-05 unregistered-table";

pub(super) const CHECKS: &[Question] = &[
    Question {
        id: "T-02 force-rls",
        what: "Every tenant table, every partition of one, every table with a tenant_id and every member table has ENABLE and FORCE row level security.",
        sql: "select r.name, concat_ws(' and ', case when not r.relrowsecurity then 'row level security is not enabled' end,
                case when not r.relforcerowsecurity then 'it is not forced on the owner' end)
            from rel r where r.relkind in ('r', 'p') and (r.oid in (select t.oid from tenant t) or r.kind = 'member-scoped')
              and not (r.relrowsecurity and r.relforcerowsecurity)",
        fix: "alter table {object} enable row level security, force row level security",
    },
    Question {
        id: "T-02 inheritance",
        what: "No table inherits from a tenant table, other than as its partition.",
        sql: "select r.name, 'inherits from a tenant table' from rel r
            where r.oid in (select f.oid from family f where f.depth > 0) and not r.relispartition",
        fix: "alter table {object} no inherit its parent; make it with app.tenant_table",
    },
    Question {
        id: "T-02 tenant-column",
        what: "tenant_id is a uuid, not null, and defaults to the tenant of the transaction.",
        sql: "select t.name, 'tenant_id is ' || coalesce(format_type(a.atttypid, a.atttypmod)
                || case when not a.attnotnull then ', nullable' else '' end
                || coalesce(', default ' || pg_get_expr(d.adbin, d.adrelid), ', without default'), 'missing')
            from tenant t left join pg_attribute a on a.attrelid = t.oid and a.attnum = t.tenant_column
            left join pg_attrdef d on d.adrelid = t.oid and d.adnum = t.tenant_column
            where t.relkind in ('r', 'p') and (a.atttypid is distinct from 'uuid'::regtype or not a.attnotnull
              or pg_get_expr(d.adbin, d.adrelid) is distinct from
                '(NULLIF(current_setting(''app.tenant_id''::text, true), ''''::text))::uuid')",
        fix: "make {object} with app.tenant_table, or give tenant_id its type, NOT NULL and default back",
    },
    Question {
        id: "R-01 unregistered",
        what: "Every table that the login can reach, by table or by column, in any schema, is registered.",
        sql: "select r.name, 'the login holds ' || string_agg(distinct h.privilege, ', ')
            from rel r join held h on h.oid = r.oid
            where (r.kind is null or r.kind = 'private' and not lower(h.privilege collate \"C\") = any (r.privileges))
              and r.relkind in ('r', 'p') and r.oid not in (select f.oid from family f where f.depth > 0)
            group by r.name",
        fix: "make {object} with app.tenant_table, app.shared_table or app.member_table, or revoke all on {object} from public, {role}",
    },
    Question {
        id: UNREGISTERED,
        what: "Every table of the owner's is registered, also one that the login cannot reach: a migration forgot it. \
            While serving this is a warning, since nobody can reach such a table.",
        sql: "select r.name, 'is registered nowhere, so that a module is denied it'
            from rel r where current_setting('app.proof_login') = 'runtime' and r.kind is null and r.relkind in ('r', 'p') and not r.relispartition and r.tenant_column is null
              and r.relowner = (select c.relowner from pg_class c where c.oid = 'app.relations'::regclass)
              and r.oid not in (select h.oid from held h) and r.oid not in (select f.oid from family f)
              and not exists (select from pg_depend d
                where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.deptype = 'e')",
        fix: "write select app.tenant_table('{object}', audit_as => '…') in a migration, or app.shared_table for what all \
            tenants read, or app.private_table for what only the owner touches",
    },
    Question {
        id: "R-02 registered-missing",
        what: "Every registered relation exists.",
        sql: "select g.relation, 'registered as ' || g.kind || ', but not there' from app.relations g
            where g.relation not in (select r.name from rel r where r.relkind in ('r', 'p'))",
        fix: "delete from app.relations where relation = '{object}', in the migration that dropped or renamed it",
    },
    Question {
        id: "R-03 registered-kind",
        what: "A relation with a tenant_id is registered as a tenant's or not reachable; shared-read and member-scoped relations have none.",
        sql: "select r.name, 'has a tenant_id, but is registered as ' || r.kind from rel r
            where r.tenant_column is not null and r.kind <> 'tenant'",
        fix: "register {object} with app.tenant_table",
    },
    Question {
        id: "R-04 disguised-tenant",
        what: "No shared-read table points at a tenant: its rows would be that tenant's, under another column's name.",
        sql: "select r.name, format('%s references public.tenants', c.conname) from rel r
            join pg_constraint c on c.conrelid = r.oid and c.contype = 'f' and c.confrelid = 'public.tenants'::regclass
            where r.kind = 'shared-read' and r.tenant_column is null",
        fix: "call the column tenant_id and make {object} with app.tenant_table",
    },
    Question {
        id: "T-08 fk-composite",
        what: "A foreign key to a tenant table pairs tenant_id with tenant_id: referential checks go past row level security.",
        sql: "select s.name, format('%s references %s without tenant_id', c.conname, t.name)
            from pg_constraint c join rel s on s.oid = c.conrelid join tenant t on t.oid = c.confrelid
            where c.contype = 'f' and c.conparentid = 0 and not exists (
              select from unnest(c.conkey, c.confkey) k (mine, theirs)
              where k.mine = s.tenant_column and k.theirs = t.tenant_column)",
        fix: "replace it on {object} by foreign key (tenant_id, …_id) references … (tenant_id, id)",
    },
    Question {
        id: "T-08 fk-people",
        what: "Tenant tables reference memberships (tenant_id, user_id), never a table of people.",
        sql: "select t.name, format('%s references %s', c.conname, p.name)
            from pg_constraint c join tenant t on t.oid = c.conrelid join rel p on p.oid = c.confrelid
            where c.contype = 'f' and p.kind = 'member-scoped' and t.name <> 'public.memberships'",
        fix: "replace it on {object} by foreign key (tenant_id, user_id) references public.memberships",
    },
    Question {
        id: "T-09 unique-spans-tenants",
        what: "Every unique index and exclusion constraint of a tenant table has tenant_id among its keys, compared for equality.",
        sql: "select t.name, i.indexrelid::regclass || ' spans tenants' from tenant t join pg_index i on i.indrelid = t.oid
            left join pg_constraint x on x.conindid = i.indexrelid and x.contype = 'x'
            where (i.indisunique or i.indisexclusion) and not exists (
              select from generate_series(1, i.indnkeyatts) n
              where i.indkey[n - 1] = t.tenant_column
                and (x.oid is null or x.conexclop[n] = 'pg_catalog.=(uuid,uuid)'::regoperator))",
        fix: "make it lead with tenant_id: alter table {object} add unique (tenant_id, …)",
    },
    Question {
        id: "T-09 shared-sequence",
        what: "No column of a tenant table draws from a sequence: its gaps tell one tenant how busy the others are.",
        sql: "select t.name, format('%s draws from a sequence', a.attname) from tenant t
            join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and (a.atthasdef or a.attidentity <> '')
            left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
            where a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) collate \"C\" ~ 'nextval'",
        fix: "use a uuid made by the application, or a counter row per tenant, on {object}",
    },
    Question {
        id: "T-07 leading-index",
        what: "Every tenant table has a valid, complete index that leads with tenant_id.",
        sql: "select t.name, 'no index leads with tenant_id' from tenant t where t.relkind in ('r', 'p') and not exists (
              select from pg_index i where i.indrelid = t.oid and i.indisvalid and i.indpred is null
                and i.indkey[0] = t.tenant_column)",
        fix: "alter table {object} add primary key (tenant_id, id)",
    },
    Question {
        id: "U-05 trigger-disabled",
        what: "No trigger of a registered table is switched off: foreign keys and the audit log are triggers.",
        sql: "select r.name, format('trigger %s is disabled', string_agg(t.tgname, ', ' order by t.tgname collate \"C\"))
            from rel r join pg_trigger t on t.tgrelid = r.oid
            where t.tgenabled not in ('O', 'A') and (r.kind is not null or r.oid in (select f.oid from family f)) group by r.name",
        fix: "alter table {object} enable trigger all",
    },
    Question {
        id: "U-05 audit-trigger",
        what: "Every audited table has its audit trigger, for all rows and changes, with the function that was made for its columns.",
        sql: "select r.name, case when t.oid is null then 'has no audit trigger for all changes of all rows'
                when md5(p.prosrc) is distinct from g.audit_checksum then 'its audit trigger runs ' || t.tgfoid::regprocedure || ', which was not made for it'
                else 'its audit trigger knows the columns ' || array_to_string(g.audited_columns, ', ') end
            from rel r join app.relations g on g.relation = r.name
            left join pg_trigger t on t.tgrelid = r.oid and t.tgname = 'audit' and not t.tgisinternal and t.tgtype = 29
              and t.tgqual is null and t.tgattr = '' and t.tgdeferrable
            left join pg_proc p on p.oid = t.tgfoid
            where r.kind = 'tenant' and g.unaudited is null and (t.oid is null or md5(p.prosrc) is distinct from g.audit_checksum
              or g.audited_columns is distinct from array(select a.attname::text from pg_attribute a
                where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped order by a.attnum))",
        fix: "as the owner: select app.compile_audit('{object}'); where the trigger is missing, make it anew as app.tenant_table does",
    },
    Question {
        id: "C-01 canary-reserved",
        what: "The two canary tenants exist and are reserved: nobody signs in to them.",
        sql: "select c.slug, coalesce('status is ' || t.status, 'is missing') from (values
                ('00000000-0000-7000-8000-00000000c001'::uuid, 'canary-one'),
                ('00000000-0000-7000-8000-00000000c002'::uuid, 'canary-two')) c (id, slug)
            left join public.tenants t on t.id = c.id where t.status is distinct from 'reserved'",
        fix: "restore {object} of migration core/0001_tenancy with status 'reserved'",
    },
];
