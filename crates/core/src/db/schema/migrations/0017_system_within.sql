-- Where the system's login sees the rows of all tenants, it does so while it has named none. Within one it sees that tenant's, so that
-- a statement that forgets to say which tenant reads and changes no other's rows.

-- A CASE, and not the condition by itself: PostgreSQL guesses that nearly no row passes `… is null` and sorts whole lanes of the
-- queue where it would walk an index to the first few rows; of a CASE it guesses one half.
create function app.open_across(name text) returns void
language plpgsql as $$
declare
  outside constant text :=
    'case when nullif((select current_setting(''app.tenant_id'', true)), '''') is null then true else false end';
begin
  execute format('drop policy if exists system on %s', name);
  execute format('create policy system on %s for all to %I using (%s) with check (%s)', name,
    current_setting('app.system_role'), outside, outside);
end $$;

-- Lets the system's login use a registered table, with exactly these commands; said again, it replaces what was said before.
--
--   across  false: within the tenant that it has named, by the policy of the table. true: also the rows of all tenants while it has
--           named none, by a policy for its role alone. For looking up what is known before its tenant is, such as the session
--           of a token.
create or replace function app.system_access(relation regclass, commands text[], why text, across boolean default false) returns void
language plpgsql as $$
declare
  name constant text := app.qualified(relation);
  login constant text := current_setting('app.system_role');
  known text;
begin
  select r.kind into known from app.relations r where r.relation = name;
  if known is null then
    raise exception 'system_access(%): the table is registered nowhere', name
      using hint = 'Hand it to app.tenant_table, app.shared_table, app.member_table or app.private_table first.';
  end if;
  if commands = '{}' or not commands <@ '{select,insert,update,delete}' then
    raise exception 'system_access(%): the commands are %', name, commands
      using hint = 'Name some of select, insert, update and delete.';
  end if;
  if known in ('shared-read', 'member-scoped') and commands <> '{select}' then
    raise exception 'system_access(%): a % table is written by its owner only', name, known
      using hint = 'Say ''{select}''.';
  end if;
  if across and known not in ('tenant', 'member-scoped') then
    raise exception 'system_access(%): a % table has no tenants to look across', name, known
      using hint = 'Leave across out.';
  end if;
  execute (select format('grant usage on schema %I to %I', n.nspname, login)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
  execute format('revoke all on %s from %I', name, login);
  execute format('grant %s on %s to %I', array_to_string(commands, ', '), name, login);
  execute format('drop policy if exists system on %s', name);
  if across then
    perform app.open_across(name);
  end if;
  update app.relations r set system_privileges = commands, system_across = across, system_why = system_access.why
    where r.relation = name;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.open_across(text) from public;
revoke execute on function app.system_access(regclass, text[], text, boolean) from public;

select app.open_across(relation) from app.relations where system_across;
