//! The policies: on a tenant's table the canonical one and no other, since permissive policies are OR-ed together.

use super::Question;

pub(super) const CHECKS: &[Question] = &[
    Question {
        id: "T-06 policy-canonical",
        what: "The policies of a tenant table are the canonical tenant policy and nothing else, for USING and WITH CHECK alike; where the registry says so, one more that opens all tenants' rows to the system's login for as long as it has named no tenant, and one that narrows the table to one's own rows.",
        sql: "select p.name, format('policy %s: %s', p.polname, case
                when p.polname = 'rows' then 'is not the row condition that the registry has'
                when p.polname = 'system' then 'is not for the system''s login alone, opens the table within a tenant, too, or is registered nowhere'
                when not p.applies then 'is for other roles'
                when 'true' in (u.words, w.words) then 'is always true'
                when concat(u.words, w.words) collate \"C\" !~ 'tenant_id' then 'does not look at the tenant'
                when concat(u.words, w.words) collate \"C\" ~* 'is null|coalesce' then 'opens when no tenant is set'
                when not p.polpermissive then 'is restrictive'
                when p.polcmd <> '*' then 'covers one command only'
                else 'has another condition' end || format(' (%s; with check %s)', u.words, w.words))
            from policy p
            left join spelled u on u.tree = p.polqual::text and u.tenant_column = p.tenant_column
            left join spelled w on w.tree = p.polcheck::text and w.tenant_column = p.tenant_column,
            (values ('(tenant_id = (NULLIF(( SELECT current_setting(''app.tenant_id''::text, true) AS current_setting), ''''::text))::uuid)')) c (canonical)
            where not p.registered and (p.polpermissive and p.polcmd = '*' and p.applies and u.words = c.canonical and w.words = c.canonical) is not true",
        fix: "drop the policy on {object}, then select app.isolate('{object}')",
    },
    Question {
        id: "T-06 policy-rows",
        what: "Where the registry says that one sees one's own rows of a table only, the table has that restrictive policy for the runtime role, word for word.",
        sql: "select r.name, 'shows everybody all rows of the tenant; registered is: ' || r.row_condition
            from rel r where r.row_condition is not null and not exists (
              select from pg_policy p where p.polrelid = r.oid and p.oid in (select c.oid from conditions c))",
        fix: "select app.row_condition('{object}', …), as the migration of the table says",
    },
    Question {
        id: "T-06 policy-missing",
        what: "Each of the four commands on a tenant table is covered by a policy for the login.",
        sql: "select t.name, 'no policy covers ' || string_agg(c.word, ', ' order by c.word collate \"C\")
            from tenant t, (values ('r'::\"char\", 'SELECT'), ('a', 'INSERT'), ('w', 'UPDATE'), ('d', 'DELETE')) c (cmd, word)
            where t.relkind in ('r', 'p') and not exists (select from policy p
              where p.relation = t.oid and p.polpermissive and p.applies and p.polcmd in ('*', c.cmd))
            group by t.name",
        fix: "select app.isolate('{object}')",
    },
    Question {
        id: "T-06 policy-members",
        what: "A table of people has one policy for the login, SELECT through a membership of the tenant, and one for its owner alone.",
        sql: "select r.name, case when p.oid is null then 'no policy' else format('policy %s: %s', p.polname,
                coalesce(e.seen, 'with check ' || pg_get_expr(p.polwithcheck, p.polrelid))) end
            from rel r left join pg_policy p on p.polrelid = r.oid and p.polroles <> array[r.relowner]
              and p.oid not in (select s.oid from systems s),
            lateral (select regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\\s+', ' ', 'g')) e (seen)
            where r.kind = 'member-scoped' and (p.polcmd = 'r' and e.seen collate \"C\" ~
              ('^\\(EXISTS \\( SELECT 1 FROM public\\.memberships m WHERE \\(m\\.user_id = ' || r.relname || '\\.\\w+\\)\\)\\)$')) is not true",
        fix: "drop the policy on {object} and create the one of app.member_table",
    },
];
