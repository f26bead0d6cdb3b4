-- Row conditions: within a tenant, a table of which one sees and changes one's own rows only, and those of the groups that
-- one belongs to. Who holds the permission that lifts the condition sees all of the tenant's.
--
-- The condition is a restrictive policy for the runtime role: it narrows what the tenant's policy lets through, and can
-- never widen it. The registry has it verbatim, and the isolation proof compares the two.

alter table app.relations
  add column row_condition text,       -- as PostgreSQL reads it back
  add column row_owner text,           -- the column whose rows are one's own
  add column row_lifted_by text,       -- the permission whose holders see all rows
  add constraint relations_row_condition_check check (
    (row_condition is null) = (row_owner is null) and (row_owner is null) = (row_lifted_by is null)
    and (row_condition is null or kind = 'tenant'));

-- Narrows a tenant's table to one's own rows.
--
--   owner      a column of type uuid; who adds a row without saying whose it is becomes its owner
--   lifted_by  the permission whose holders see all rows: `expenses.claim.read_all`
--   by         a column of type uuid that names a group, such as a department
--   members    the tenant's table that says who is in which group: it has a column called as `by`, and `principal_id`
create function app.row_condition(
  relation regclass,
  owner text,
  lifted_by text,
  by text default null,
  members regclass default null
) returns void
language plpgsql set search_path = pg_catalog as $$
declare
  name constant text := app.qualified(relation);
  runtime constant text := current_setting('app.runtime_role');
  me constant text := 'nullif((select current_setting(''app.principal'', true)), '''')::uuid';
  condition text := format('%I = %s', owner, me);
  missing text;
begin
  if not exists (select from app.relations r where r.relation = name and r.kind = 'tenant') then
    raise exception 'row_condition(%): it is not a tenant''s table', name using hint = 'Hand it to app.tenant_table first.';
  end if;
  if lifted_by !~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}$' then
    raise exception 'row_condition(%): % is not the name of a permission', name, lifted_by
      using hint = 'Name the one whose holders see all rows: lifted_by => ''expenses.claim.read_all''.';
  end if;
  if (by is null) <> (members is null) then
    raise exception 'row_condition(%): by and members belong together', name
      using hint = 'Say by => ''department_id'', members => ''public.department_members''; or neither.';
  end if;
  select format('%s.%s', app.qualified(c.relation), c.col) into missing
    from (values (relation, owner), (relation, by), (members, by), (members, 'principal_id')) c (relation, col)
    where c.relation is not null and c.col is not null and not exists (select from pg_attribute a
      where a.attrelid = c.relation and a.attname = c.col and a.attnum > 0 and not a.attisdropped and a.atttypid = 'uuid'::regtype);
  if missing is not null then
    raise exception 'row_condition(%): there is no column % of type uuid', name, missing
      using hint = 'Add it, or name another one.';
  end if;
  if members is not null then
    if not exists (select from app.relations r where r.relation = app.qualified(members) and r.kind = 'tenant' and r.row_condition is null) then
      raise exception 'row_condition(%): % is not a tenant''s table without a condition of its own', name, members
        using hint = 'Hand it to app.tenant_table, and say who may change it.';
    end if;
    condition := format('%s or %I in (select m.%I from %s m where m.principal_id = %s)', condition, by, by, app.qualified(members), me);
  end if;
  condition := format('%s or %L = any (string_to_array((select current_setting(''app.lifted'', true)), '',''))', condition, lifted_by);

  execute format('alter table %s alter column %I set default nullif(current_setting(''app.principal'', true), '''')::uuid', name, owner);
  execute format('drop policy if exists rows on %s', name);
  execute format('create policy rows on %s as restrictive for all to %I using (%s) with check (%s)', name, runtime, condition, condition);
  update app.relations r set row_owner = format('%I', owner), row_lifted_by = lifted_by, row_condition = (
      select regexp_replace(pg_get_expr(p.polqual, p.polrelid), '\s+', ' ', 'g')
      from pg_policy p where p.polrelid = row_condition.relation and p.polname = 'rows')
    where r.relation = name;
end $$;
revoke execute on function app.row_condition(regclass, text, text, text, regclass) from public;
