-- What holds of the rows of every table, and how a migration changes those of tenants.
--
-- From here on the runner applies migrations with row_security = off: a statement that row level security would cut
-- down to nothing fails instead. `update public.items …` in a migration touches no row otherwise, since it has no tenant,
-- and would count as applied. Rows of tenants are changed by app.for_each_tenant.

-- A tenant gets its head whatever the session says of row security.
alter function app.audit_head() set row_security = on;

-- Executes a statement once in every tenant, as that tenant, and returns how many rows it touched in all. Whatever is
-- audited is audited in its tenant, tenant by tenant. For the owner, in a migration.
create function app.for_each_tenant(statement text) returns bigint
language plpgsql set row_security = on as $$
declare
  caller constant text := coalesce(current_setting('app.tenant_id', true), '');
  tenant uuid;
  touched bigint;
  total bigint := 0;
begin
  -- The audit triggers wait for COMMIT, when the tenant is no longer set.
  set constraints all immediate;
  for tenant in select id from public.tenants order by id loop
    perform set_config('app.tenant_id', tenant::text, true);
    execute statement;
    get diagnostics touched = row_count;
    total := total + touched;
  end loop;
  perform set_config('app.tenant_id', caller, true);
  set constraints all deferred;
  return total;
end $$;

-- Times lie within the years 1 to 9998: RFC 3339 can write them, and every client can read them. `infinity` and
-- 9999-12-31 are none; what has no end is null. A column that has its check already is left alone.
create function app.bound_times(relation regclass) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  col name;
begin
  for col in
    select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
      and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
      and not exists (select from pg_catalog.pg_constraint c
        where c.conrelid = relation and c.conname = left(a.attname::text, 57) || '_years')
    order by a.attnum
  loop
    execute format('alter table %s add constraint %I check (%I >= %L and %I < %L)', name, left(col::text, 57) || '_years',
      col, '0001-01-01 00:00:00+00', col, '9999-01-01 00:00:00+00');
  end loop;
end $$;

-- The same with the bounds of times: all three constructors come through here.
create or replace function app.register(relation regclass, kind text, privileges text[], why text) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  runtime text := current_setting('app.runtime_role');
begin
  execute format('revoke all on %s from public, %I', name, runtime);
  execute format('grant %s on %s to %I', array_to_string(privileges, ', '), name, runtime);
  insert into app.relations (relation, kind, privileges, why) values (name, kind, privileges, why);
  perform app.bound_times(relation);
end $$;

-- Rows that are there already are brought within the bounds.
do $$
declare
  this record;
  inside constant text := 'update %1$s set %2$I = least(greatest(%2$I, ''0001-01-01 00:00:00+00''), ''9998-12-31 00:00:00+00'')
    where %2$I < ''0001-01-01 00:00:00+00'' or %2$I >= ''9999-01-01 00:00:00+00''';
begin
  for this in
    select r.relation, r.kind, a.attname as col from app.relations r
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass(r.relation) and a.attnum > 0 and not a.attisdropped
      and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
    order by r.ordinal, a.attnum
  loop
    if this.kind = 'tenant' then
      perform app.for_each_tenant(format(inside, this.relation, this.col));
    else
      set local row_security = on; -- the owner sees all people
      execute format(inside, this.relation, this.col);
      set local row_security = off;
    end if;
  end loop;
  perform app.bound_times(to_regclass(r.relation)) from app.relations r order by r.ordinal;
end $$;

-- Upper and lower case as Unicode has it, whatever the database's locale: for a search in any case, and for comparing
-- identifiers. A PostgreSQL without ICU gives what it has; `db check` says so when that knows ASCII only.
do $$
declare
  source text;
begin
  foreach source in array array[
    'provider = icu, locale = ''und''', 'provider = builtin, locale = ''C.UTF-8''',
    'provider = libc, locale = ''C.UTF-8''', 'provider = libc, locale = ''en_US.UTF-8''', 'provider = libc, locale = ''C'''
  ] loop
    begin
      execute format('create collation app.search (%s)', source);
      exit;
    exception when feature_not_supported or invalid_parameter_value or undefined_object or syntax_error
      or invalid_object_definition or undefined_file then
      null; -- the next one
    end;
  end loop;
end $$;

-- An identifier in the form in which two of them are compared: without regard to case, width and other ways to write the
-- same characters (close to Unicode's NFKC_Casefold; lower case first, since the capital of sharp s has no other).
create function app.folded(identifier text) returns text
language sql immutable strict parallel safe as $$
  select normalize(lower(upper(lower(normalize(identifier, nfkc) collate app.search))), nfkc)
$$;

-- Columns ending in _folded are made of others: see app.identifier. They stay out of the audit log, as the other
-- bookkeeping columns do.
create or replace function app.audit_change() returns trigger
language plpgsql as $$
declare
  was constant jsonb := to_jsonb(old);
  is_now constant jsonb := to_jsonb(new);
  masked constant text[] := tg_argv[2];
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
    tg_argv[0] || case tg_op when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end,
    tg_argv[0],
    (select string_agg(coalesce(is_now, was) ->> k, ',') from unnest(tg_argv[1]::text[]) k),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else was -> c end)
      from unnest(changed) c where was is not null),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else is_now -> c end)
      from unnest(changed) c where is_now is not null));
  return null;
end $$;

-- The trigger of app.identifier. Argument: the identifier's column. What keeps its identifier keeps its folded form.
create function app.fold_identifier() returns trigger
language plpgsql as $$
declare
  is_now constant text := to_jsonb(new) ->> tg_argv[0];
begin
  if tg_op = 'INSERT' or is_now is distinct from to_jsonb(old) ->> tg_argv[0] then
    new := jsonb_populate_record(new, jsonb_build_object(tg_argv[0] || '_folded', app.folded(is_now)));
  end if;
  return new;
end $$;

-- Makes a text column of a tenant's table an identifier: no two rows of a tenant have one that compares as the same.
-- Adds the column `<column>_folded`, which is written by a trigger, and the constraint `<table>_<column>_folded_key`.
-- Rows that are there already and differ in case only keep their identifiers, until one of them is given another.
create function app.identifier(relation regclass, col text) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
  id constant text := (select relname from pg_catalog.pg_class where oid = relation);
begin
  execute format('alter table %s add column %I text', name, col || '_folded');
  perform app.for_each_tenant(format('update %1$s t set %2$I = f.folded || case when f.nth > 1 then '' '' || t.id else '''' end
    from (select id, app.folded(%3$I) as folded, row_number() over (partition by app.folded(%3$I) order by id) as nth
      from %1$s) f where f.id = t.id', name, col || '_folded', col));
  execute format('alter table %s alter column %I set not null, add constraint %I unique (tenant_id, %I)', name,
    col || '_folded', id || '_' || col || '_folded_key', col || '_folded');
  execute format('create trigger fold_%s before insert or update of %I on %s for each row
    execute function app.fold_identifier(%L)', col, col, name, col);
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.folded(text) to %I', current_setting('app.runtime_role'));
end $$;
