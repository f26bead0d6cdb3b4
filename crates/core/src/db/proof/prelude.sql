-- What every check looks at, read once: the login that is proven, what the registry says of it, the relations outside the system schemas with their entry
-- in the registry, the tenants' tables with all that hangs below them, and what the runtime role holds on what.
with recursive
rt as materialized (
  select oid, rolname from pg_roles where rolname = current_user
),
logins as materialized (
  select * from pg_roles where rolname in (current_user, session_user)
),
rel as materialized (
  select c.oid, c.relkind, c.relispartition, c.relowner, c.relacl, c.reloptions, c.relrowsecurity, c.relforcerowsecurity,
    format('%I.%I', n.nspname, c.relname) as name, c.relname, r.kind, r.system_across, r.row_condition,
    case when current_setting('app.proof_login') = 'system' then r.system_privileges else r.privileges end as privileges,
    (select a.attnum from pg_attribute a
      where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) as tenant_column
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
  left join app.relations r on r.relation = format('%I.%I', n.nspname, c.relname)
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
),
family (oid, depth) as (
  select oid, 0 from rel where relkind in ('r', 'p', 'f') and (kind = 'tenant' or tenant_column is not null)
  union
  select i.inhrelid, f.depth + 1 from pg_inherits i join family f on f.oid = i.inhparent
),
tenant as materialized (
  select * from rel where oid in (select f.oid from family f)
),
held as materialized (
  select r.oid, x.privilege_type as privilege, x.grantee, x.is_grantable, null::name as on_column
  from rel r, aclexplode(r.relacl) x where x.grantee in (0, (select rt.oid from rt))
  union all
  select r.oid, x.privilege_type, x.grantee, x.is_grantable, a.attname
  from rel r join pg_attribute a on a.attrelid = r.oid and a.attacl is not null, aclexplode(a.attacl) x
  where x.grantee in (0, (select rt.oid from rt))
),
func as materialized (
  select p.oid, p.oid::regprocedure::text as name, p.prosecdef, p.proleakproof, p.proconfig, p.prosrc, p.prolang, p.pronamespace,
    has_function_privilege((select rt.oid from rt), p.oid, 'EXECUTE') as executable,
    exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e') as of_extension,
    exists (select from pg_trigger t where t.tgfoid = p.oid and not t.tgisinternal) as of_trigger
  from pg_proc p where p.oid >= 16384
),
-- The policies that app.system_access makes, which open a table only while no tenant is named. Each login tells its half of whom they are for: the system's that they are for
-- that role, the runtime role that they are for one role, and another one.
systems as materialized (
  select p.oid from rel r join pg_policy p on p.polrelid = r.oid
  where r.system_across and p.polname = 'system' and p.polpermissive and p.polcmd = '*' and cardinality(p.polroles) = 1
    and btrim(regexp_replace(pg_get_expr(p.polqual, r.oid), '\s+', ' ', 'g')) = 'CASE WHEN (NULLIF(( SELECT current_setting(''app.tenant_id''::text, true) AS current_setting), ''''::text) IS NULL) THEN true ELSE false END'
    and pg_get_expr(p.polwithcheck, r.oid) = pg_get_expr(p.polqual, r.oid)
    and p.polroles[1] <> 0 and (p.polroles[1] = (select rt.oid from rt)) = (current_setting('app.proof_login') = 'system')
),
-- The policies that app.row_condition makes, as the registry has them word for word. Each login tells its half of whom they are for: the
-- runtime role that they are for it alone, the system's that they are for one role, and another one.
conditions as materialized (
  select p.oid from rel r join pg_policy p on p.polrelid = r.oid
  where r.row_condition is not null and p.polname = 'rows' and not p.polpermissive and p.polcmd = '*' and cardinality(p.polroles) = 1
    and regexp_replace(pg_get_expr(p.polqual, r.oid), '\s+', ' ', 'g') = r.row_condition
    and pg_get_expr(p.polwithcheck, r.oid) = pg_get_expr(p.polqual, r.oid)
    and p.polroles[1] <> 0 and (p.polroles[1] = (select rt.oid from rt)) = (current_setting('app.proof_login') = 'runtime')
),
-- Reading an expression back is dear, and most policies are the same: each distinct one is read once. The same tree
-- on tables whose tenant_id has the same number means the same.
policy as materialized (
  select t.oid as relation, t.name, t.tenant_column, p.polname, p.polcmd, p.polpermissive, p.polroles, p.polqual,
    coalesce(p.polwithcheck, p.polqual) as polcheck,
    0 = any (p.polroles) or (select rt.oid from rt) = any (p.polroles) as applies,
    p.oid in (select s.oid from systems s union all select c.oid from conditions c) as registered
  from tenant t join pg_policy p on p.polrelid = t.oid
),
spelled as materialized (
  select distinct on (x.tree::text, x.tenant_column) x.tree::text as tree, x.tenant_column,
    regexp_replace(pg_get_expr(x.tree, x.relation), '\s+', ' ', 'g') as words
  from (select y.polqual as tree, y.relation, y.tenant_column from policy y
    union all select y.polcheck, y.relation, y.tenant_column from policy y) x
  where x.tree is not null
)
