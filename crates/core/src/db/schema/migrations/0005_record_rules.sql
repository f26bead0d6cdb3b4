-- What the constructor of tenants' tables does from here on: it keeps version and updated_at, so that no statement can
-- forget them; it wants to know whether changes are audited; and a transaction may name its action for the audit log.

-- The trigger of tables with a version: it runs for rows that a statement changes, and only for those.
create function app.keep_version() returns trigger
language plpgsql as $$
begin
  new.version := old.version + 1;
  new.updated_at := now();
  return new;
end $$;

-- Puts the trigger on a table that has both columns. A change of nothing keeps both: nothing has happened that a cache or
-- an auditor should know of. Triggers fire in the order of their names: this one sees what the others have made of a row.
create function app.keep_versions(relation regclass) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  has text[] := array(select a.attname::text from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname in ('version', 'updated_at'));
begin
  if has @> '{version,updated_at}' then
    execute format('alter table %s alter column version set default 1, alter column updated_at set default now()', name);
    execute format('create trigger version before update on %s for each row when (old.* is distinct from new.*)
      execute function app.keep_version()', name);
  elsif 'version' = any (has) then
    raise exception 'tenant_table(%): version comes with updated_at', name
      using hint = 'Add "updated_at timestamptz not null default now()": the constructor keeps both.';
  end if;
end $$;

-- Why changes of a table leave no rows in the audit log.
alter table app.relations add column unaudited text;
update app.relations set unaudited = 'it is the audit log' where relation = 'public.audit_log';
update app.relations set unaudited = 'a counter of the audit log' where relation = 'public.audit_heads';
update app.relations set unaudited = 'kept for a day, beside the audited change that it answers'
  where relation = 'public.idempotency_keys';

-- Makes a plain table a tenant's table.
--
--   key          the columns that identify a row within its tenant; the primary key is (tenant_id, key…)
--   audit_as     the word for a row in the audit log (`item` writes `item.created`)
--   unaudited    or the reason why changes are not audited; one of the two is mandatory
--   masked       columns whose values never reach the audit log
--   append_only  the runtime role may add and read rows, never change or remove them
--   deletable    false: rows end, they are never removed
--
-- A table with `version bigint` and `updated_at timestamptz` gets the trigger that keeps both.
drop function app.tenant_table(regclass, text, text[], boolean, text[], boolean, text);
create function app.tenant_table(
  relation regclass,
  audit_as text default null,
  masked text[] default '{}',
  append_only boolean default false,
  key text[] default '{id}',
  deletable boolean default true,
  why text default 'rows of one tenant',
  unaudited text default null
) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  may text[] := case when append_only then '{select,insert}'
    when deletable then '{select,insert,update,delete}' else '{select,insert,update}' end;
  missing text;
  part regclass;
begin
  if (audit_as is null) = (unaudited is null) then
    raise exception 'tenant_table(%): say whether changes are audited', name
      using hint = 'Add audit_as => ''item'', the word for a row in the audit log; or unaudited => ''why not''.';
  end if;
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
  update app.relations r set unaudited = tenant_table.unaudited where r.relation = name;
  perform app.keep_versions(relation);

  -- Deferred to the COMMIT: the tenant's audit head is locked last, so its other writers hardly wait for it.
  if audit_as is not null then
    execute format('create constraint trigger audit after insert or update or delete on %s deferrable initially deferred
      for each row execute function app.audit_change(%L, %L, %L)',
      name, audit_as, case when key = '{}' then '{tenant_id}' else key end, masked);
  end if;
end $$;

-- The tables that are there already.
do $$
begin
  perform app.keep_versions(to_regclass(r.relation)) from app.relations r where r.kind = 'tenant' order by r.ordinal;
end $$;

-- The row trigger of app.tenant_table, as before; but where the transaction has named its action (`order.approved`), the
-- rows of that word (`order`) are told under it.
create or replace function app.audit_change() returns trigger
language plpgsql as $$
declare
  was constant jsonb := to_jsonb(old);
  is_now constant jsonb := to_jsonb(new);
  masked constant text[] := tg_argv[2];
  named constant text := current_setting('app.action', true);
  changed text[];
begin
  changed := array(
    select c from jsonb_object_keys(coalesce(is_now, was)) c
    where was -> c is distinct from is_now -> c and c <> all ('{tenant_id,updated_at,version}')
      and right(c, 7) <> '_folded');
  if changed = '{}' and tg_op = 'UPDATE' then
    return null;
  end if;
  perform app.audit(
    case when split_part(named, '.', 1) = tg_argv[0] then named
      else tg_argv[0] || case tg_op when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end end,
    tg_argv[0],
    (select string_agg(coalesce(is_now, was) ->> k, ',') from unnest(tg_argv[1]::text[]) k),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else was -> c end)
      from unnest(changed) c where was is not null),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else is_now -> c end)
      from unnest(changed) c where is_now is not null));
  return null;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;
