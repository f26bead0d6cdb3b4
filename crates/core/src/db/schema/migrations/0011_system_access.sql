-- The system's login: a second role that serves, for what no caller can do, such as sign-in (docs/reference/system-work.md).
-- It owns nothing, is a member of nothing, and is bound by row level security as the runtime role is. Of a tenant's table it
-- sees the rows of the tenant that it has named, and that only where a migration says so here.
--
-- The runner sets `app.system_role` for the transaction.

do $$
begin
  execute format('grant usage on schema app, public to %I', current_setting('app.system_role'));
end $$;

alter table app.relations
  add column system_privileges text[] not null default '{}', -- exactly what the system's login holds
  add column system_across boolean not null default false,   -- it sees the rows of all tenants
  add column system_why text,
  add constraint relations_system_check check (
    (system_privileges = '{}') = (system_why is null) and (not system_across or system_privileges <> '{}'));

-- Lets the system's login use a registered table, with exactly these commands; said again, it replaces what was said before.
--
--   across  false: within the tenant that it has named, by the policy of the table. true: the rows of all tenants, by a policy
--           for its role alone. For looking up what is known before its tenant is, such as the session of a token.
create function app.system_access(relation regclass, commands text[], why text, across boolean default false) returns void
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
    execute format('create policy system on %s for all to %I using (true) with check (true)', name, login);
  end if;
  update app.relations r set system_privileges = commands, system_across = across, system_why = system_access.why
    where r.relation = name;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.system_access(regclass, text[], text, boolean) from public;

select app.system_access('app.relations', '{select}', 'the isolation proof reads the registry as this login, too');
select app.system_access('app.migrations', '{select}', 'the isolation proof compares the schema with the binary''s');
select app.system_access('public.tenants', '{select}', 'work of the system begins by finding a tenant');
select app.system_access('public.audit_log', '{select,insert}', 'what the system does in a tenant is in its audit log');
select app.system_access('public.audit_heads', '{select,update}', 'an audit row takes the tenant''s next number');

do $$
begin
  execute format('grant execute on function app.audit(text, text, text, jsonb, jsonb, text, jsonb) to %I',
    current_setting('app.system_role'));
end $$;
