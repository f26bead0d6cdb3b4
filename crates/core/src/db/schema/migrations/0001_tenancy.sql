-- Tenancy: who the tenants are, and the one way to make a table that belongs to them.
--
-- A migration creates a plain table (`id uuid not null`, no key, no tenant column) and hands it to a constructor:
--
--   app.tenant_table   one tenant sees its own rows: column, default, composite key, row level security, grants, audit
--   app.shared_table   everybody reads the same rows, only the owner writes
--   app.member_table   people: visible through a membership of the current tenant
--
-- Each constructor registers the relation in app.relations. The isolation proof refuses to start the server when the
-- runtime role can reach a relation that is not registered, or one that has changed since it was.
--
-- The runner sets `app.runtime_role` for the transaction; the runtime role owns nothing and is a member of nothing.

create schema app;

-- Functions are for the owner unless granted one by one; PostgreSQL would give EXECUTE to everybody.
alter default privileges revoke execute on functions from public;

do $$
begin
  execute format('grant usage on schema app, public to %I', current_setting('app.runtime_role'));
end $$;

-- What the runner has applied: it adds a row in the transaction of each migration, this one included.
create table app.migrations (
  name text primary key,
  checksum text not null, -- SHA-256 of the file
  applied_at timestamptz not null default now()
);

create table public.tenants (
  id uuid primary key,
  slug text not null constraint tenants_slug_key unique
    check (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  status text not null default 'active' check (status in ('active', 'suspended', 'closed', 'reserved')),
  created_at timestamptz not null default now()
);

create table app.relations (
  relation text primary key, -- schema-qualified, quoted where SQL wants it
  kind text not null check (kind in ('tenant', 'shared-read', 'member-scoped')),
  privileges text[] not null, -- exactly what the runtime role holds
  append_only boolean not null generated always as (not 'update' = any (privileges) and 'insert' = any (privileges)) stored,
  ordinal int generated always as identity, -- order of creation: a row's parents come before it
  why text not null
);

-- `public.items`, whatever the search path is.
create function app.qualified(relation regclass) returns text
language sql stable as $$
  select format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.oid = relation
$$;

-- Takes every privilege away, gives the runtime role exactly `privileges`, and writes the relation into the registry.
create function app.register(relation regclass, kind text, privileges text[], why text) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  runtime text := current_setting('app.runtime_role');
begin
  execute format('revoke all on %s from public, %I', name, runtime);
  execute format('grant %s on %s to %I', array_to_string(privileges, ', '), name, runtime);
  insert into app.relations (relation, kind, privileges, why) values (name, kind, privileges, why);
end $$;

-- Row level security with the one canonical policy, for the owner too. The setting is read in a sub-select, so that
-- it is evaluated once per statement and serves as an index condition; '' is what an unset setting turns into after
-- a COMMIT, and compares as null: no tenant, no rows. A new partition of a tenant table needs this and no grants.
create function app.isolate(relation regclass) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  mine constant text := 'tenant_id = nullif((select current_setting(''app.tenant_id'', true)), '''')::uuid';
begin
  execute format('alter table %s enable row level security', name);
  execute format('alter table %s force row level security', name);
  execute format('create policy tenant on %s for all to public using (%s) with check (%s)', name, mine, mine);
end $$;

-- Makes a plain table a tenant's table.
--
--   key          the columns that identify a row within its tenant; the primary key is (tenant_id, key…)
--   audit_as     the word for a row in the audit log (`item` writes `item.created`); null: changes are not audited
--   masked       columns whose values never reach the audit log
--   append_only  the runtime role may add and read rows, never change or remove them
--   deletable    false: rows end, they are never removed
create function app.tenant_table(
  relation regclass,
  audit_as text default null,
  masked text[] default '{}',
  append_only boolean default false,
  key text[] default '{id}',
  deletable boolean default true,
  why text default 'rows of one tenant'
) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  may text[] := case when append_only then '{select,insert}'
    when deletable then '{select,insert,update,delete}' else '{select,insert,update}' end;
  missing text;
  part regclass;
begin
  if exists (select from pg_constraint c where c.conrelid = relation and c.contype = 'p') then
    raise exception 'tenant_table(%): the table already has a primary key', name
      using hint = 'Create it with "id uuid not null" and no key; tenant_table makes the key (tenant_id, id).';
  end if;
  select k into missing from unnest(key) k where not exists (
    select from pg_attribute a where a.attrelid = relation and a.attname = k and a.attnum > 0 and not a.attisdropped);
  if missing is not null then
    raise exception 'tenant_table(%): there is no column %', name, missing
      using hint = 'Add "id uuid not null", or name the identifying columns: key => ''{user_id}''.';
  end if;

  execute format($ddl$alter table %s add column tenant_id uuid not null
    default nullif(current_setting('app.tenant_id', true), '')::uuid references public.tenants (id)$ddl$, name);
  execute format('alter table %s add primary key (%s)', name,
    (select string_agg(format('%I', k), ', ' order by i) from unnest('{tenant_id}' || key) with ordinality t (k, i)));

  perform app.isolate(relation);
  for part in select t.relid from pg_partition_tree(relation) t where t.relid <> relation loop
    perform app.isolate(part);
  end loop;
  perform app.register(relation, 'tenant', may, why);

  -- Deferred to the COMMIT: the tenant's audit head is locked last, so its other writers hardly wait for it.
  if audit_as is not null then
    execute format('create constraint trigger audit after insert or update or delete on %s deferrable initially deferred
      for each row execute function app.audit_change(%L, %L, %L)',
      name, audit_as, case when key = '{}' then '{tenant_id}' else key end, masked);
  end if;
end $$;

-- Registers a table whose rows everybody may read and nobody but the owner writes.
create function app.shared_table(relation regclass, why text) returns void
language sql as $$
  select app.register(relation, 'shared-read', '{select}', why)
$$;

-- Makes a table of people: a row is visible where its `person` column is a member of the current tenant
-- (memberships is a tenant table itself). The owner, who adds people, sees them all.
create function app.member_table(relation regclass, why text, person text default 'id') returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
begin
  execute format('alter table %s enable row level security', name);
  execute format('alter table %s force row level security', name);
  execute format('create policy member on %s for select to public using
    (exists (select 1 from public.memberships m where m.user_id = %s.%I))', name, name, person);
  execute format('create policy owner on %s for all to %I using (true) with check (true)', name, current_user);
  perform app.register(relation, 'member-scoped', '{select}', why);
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

select app.shared_table('app.relations', 'the registry itself, read by the isolation proof');
select app.shared_table('app.migrations', 'a serving process compares what was applied with its own list');
select app.shared_table('public.tenants', 'the directory: sign-in looks up a tenant by its slug before there is a tenant');

-- The isolation proof acts as these two, in transactions that it always rolls back. Nobody can sign in to them.
insert into public.tenants (id, slug, status) values
  ('00000000-0000-7000-8000-00000000c001', 'canary-one', 'reserved'),
  ('00000000-0000-7000-8000-00000000c002', 'canary-two', 'reserved');
