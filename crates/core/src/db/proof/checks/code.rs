//! Code that runs with rights or a context of its own: views, rules, functions, extensions.

use super::Question;

pub(super) const CHECKS: &[Question] = &[
    Question {
        id: "T-11 view-invoker",
        what: "Every view that the login can reach is security_invoker: others read with their owner's rights.",
        sql: "select r.name, 'is not security_invoker' from rel r where r.relkind = 'v'
              and exists (select from held h where h.oid = r.oid)
              and not exists (select from unnest(r.reloptions) o where o collate \"C\" ~* '^security_invoker=(true|on|yes|1)$')",
        fix: "alter view {object} set (security_invoker = true)",
    },
    Question {
        id: "T-11 materialized-view",
        what: "No materialised view is granted to the login: it holds all tenants' rows and knows no row level security.",
        sql: "select r.name, string_agg(distinct h.privilege, ', ') from rel r join held h on h.oid = r.oid
            where r.relkind = 'm' group by r.name",
        fix: "revoke all on {object} from public, {role}",
    },
    Question {
        id: "T-12 foreign-table",
        what: "No foreign table is granted to the login, and none is a partition of a tenant table.",
        sql: "select r.name, coalesce((select string_agg(distinct h.privilege, ', ') from held h where h.oid = r.oid), 'holds a tenant''s rows')
            from rel r where r.relkind = 'f' and (r.oid in (select h.oid from held h) or r.oid in (select f.oid from family f))",
        fix: "revoke all on {object} from public, {role}, and detach it",
    },
    Question {
        id: "T-11 rule",
        what: "No rewrite rule stands on a reachable table or view: its actions run with the owner's rights.",
        sql: "select r.name, 'rule ' || w.rulename from rel r join pg_rewrite w on w.ev_class = r.oid
            where w.rulename <> '_RETURN' and (r.kind is not null or r.oid in (select f.oid from family f)
              or r.oid in (select h.oid from held h))",
        fix: "drop the rule on {object}; use a trigger whose function is SECURITY INVOKER",
    },
    Question {
        id: "T-12 definer-function",
        what: "No SECURITY DEFINER function is executable by the login, in any schema; but for the one that adds an entry to the audit log, and the system's that make and drop partitions, add, move and erase tenants, remove what an audit log keeps no longer, and encrypt anew, with their search path pinned.",
        sql: "select f.name, 'is SECURITY DEFINER and executable' from func f where f.prosecdef and f.executable
            and not ((f.name = 'app.audit(text,text,text,jsonb,jsonb,text,jsonb)' or current_setting('app.proof_login') = 'system' and f.name in ('app.maintain_partitions(integer)', 'app.add_tenant(uuid,text)', 'app.move_tenant(uuid,text[],text)',
              'app.prune_audit(integer,bigint[],bigint[],timestamp with time zone[],timestamp with time zone[],text[])',
              'app.begin_erasure(uuid,interval)', 'app.erase_rows(integer)', 'app.end_erasure()',
              'app.subject_addresses(text,boolean)', 'app.subject_data(text,text[],boolean)', 'app.erase_subject(text,text[],boolean,boolean)',
              'app.encrypted_counts()', 'app.encrypted_page(text,text,integer,uuid,integer)', 'app.reseal(text,text,uuid,text,text,text)'))
              and f.proconfig @> '{\"search_path=pg_catalog, pg_temp\"}')",
        fix: "alter function {object} security invoker, or revoke execute on function {object} from public, {role}",
    },
    Question {
        id: "T-12 definer-trigger",
        what: "No trigger on a reachable relation runs a SECURITY DEFINER function: triggers need no EXECUTE to fire. But for the audit triggers, word for word as they were made.",
        sql: "select r.name, format('trigger %s runs %s', t.tgname, f.name)
            from rel r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal join func f on f.oid = t.tgfoid
            where f.prosecdef and not f.executable and t.tgparentid = 0
              and not (t.tgname = 'audit' and f.proconfig = '{\"search_path=pg_catalog, pg_temp\"}'
                and exists (select from app.relations g where g.audit_checksum = md5(f.prosrc)))
              and (r.oid in (select h.oid from held h) or r.oid in (select x.oid from family x))",
        fix: "make the trigger function of {object} SECURITY INVOKER",
    },
    Question {
        id: "T-12 function-context",
        what: "No function or trigger that the login can set off changes the tenant, row security or the role.",
        sql: "select f.name, coalesce(nullif(array_to_string(f.proconfig, ', '), ''), 'its body sets context') from func f
            where (f.executable or exists (select from pg_trigger t join rel r on r.oid = t.tgrelid join held h on h.oid = r.oid
                where t.tgfoid = f.oid and not t.tgisinternal and h.privilege in ('INSERT', 'UPDATE', 'DELETE')))
              and (array_to_string(f.proconfig, ',') collate \"C\" ~* '(^|,)(app[.]|row_security|role|session_authorization|session_replication_role)'
                or concat(f.prosrc, pg_get_function_sqlbody(f.oid)) collate \"C\" ~* 'set_config|\\mset\\s+(local\\s+|session\\s+)?(app[.]|row_security|role\\M|session)')",
        fix: "take the setting out of {object}, or revoke execute on function {object} from public, {role}",
    },
    Question {
        id: "T-12 leakproof",
        what: "No user-defined function is LEAKPROOF: it would see rows before the policy does.",
        sql: "select f.name, 'is LEAKPROOF' from func f where f.proleakproof",
        fix: "alter function {object} not leakproof",
    },
    Question {
        id: "T-12 untrusted-language",
        what: "No function in an untrusted language is executable by the login, but for those of known extensions.",
        sql: "select f.name, 'written in ' || l.lanname from func f join pg_language l on l.oid = f.prolang
            where not l.lanpltrusted and f.executable and not f.of_extension",
        fix: "revoke execute on function {object} from public, {role}",
    },
    Question {
        id: "T-12 extension-public",
        what: "No extension lives in the schema public, among the tables.",
        sql: "select e.extname, 'is in schema public' from pg_extension e where e.extnamespace = 'public'::regnamespace",
        fix: "alter extension {object} set schema extensions",
    },
    Question {
        id: "T-12 extension-outward",
        what: "No extension that opens connections, files or a shell is installed.",
        sql: "select e.extname, 'opens connections, files or a shell' from pg_extension e
            where e.extname collate \"C\" ~ '^(dblink|postgres_fdw|file_fdw|.*_fdw|adminpack|lo|pg_cron|http|pg_net|plsh|plpython.*u|plperlu|pltclu)$'",
        fix: "drop extension {object}",
    },
    Question {
        id: "T-12 catalogue-shadow",
        what: "Nothing user-made lives in pg_catalog, and no user-made cast or equality stands between built-in types: policies would read the same and mean something else.",
        sql: "select f.name, 'is in pg_catalog' from func f where f.pronamespace = 'pg_catalog'::regnamespace and not f.of_extension
            union all select c.oid::regclass::text, 'is in pg_catalog' from pg_class c
              where c.oid >= 16384 and c.relnamespace = 'pg_catalog'::regnamespace
                and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
            union all select format('cast (%s as %s)', c.castsource::regtype, c.casttarget::regtype), 'replaces the built-in one' from pg_cast c
              where c.oid >= 16384 and c.castsource < 16384 and c.casttarget < 16384
            union all select 'operator ' || o.oid::regoperator, 'competes with the built-in one' from pg_operator o
              where o.oid >= 16384 and o.oprname in ('=', '<>') and o.oprleft < 16384 and o.oprright < 16384",
        fix: "drop {object}, or move it into a schema of its own",
    },
    Question {
        id: "T-12 event-trigger",
        what: "No event trigger is enabled: it would run during migrations with the owner's rights.",
        sql: "select e.evtname, 'runs ' || e.evtfoid::regprocedure from pg_event_trigger e where e.evtenabled <> 'D'",
        fix: "drop event trigger {object}",
    },
];
