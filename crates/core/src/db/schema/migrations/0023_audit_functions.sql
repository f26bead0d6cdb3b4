-- What the audit log costs its writers, and what it keeps of people (docs/decisions/0048-audit-functions.md).
--
-- Each audited table has a trigger function of its own, which names the table's columns. app.compile_audit makes it: the
-- constructor calls it, and so does the runner after each migration. The isolation proof compares what a function was made
-- for with what its table has. These functions and app.audit act as the owner, to whom the policies apply as to everybody: the logins that serve
-- can add no entry of another number, another time or another tenant, and move no head.

-- Times of a tenant's entries never decrease, whatever the clock does: the key of the log begins with them.
alter table public.audit_heads add column last_at timestamptz not null default '0001-01-01 00:00:00+00';
drop trigger only_counts on public.audit_heads;
drop function app.audit_head_only_counts();
select app.for_each_tenant('update public.audit_heads h set last_at = coalesce((select max(l.at) from public.audit_log l), h.last_at)');

-- The head says already which tenants there are; a foreign key locked the tenant's row at each entry.
alter table public.audit_log drop constraint audit_log_tenant_id_fkey;

-- What commitments of the entry's personal values are made with. Erasure takes it away, with the values.
alter table public.audit_log add column salt bytea default uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());

-- Columns that hold something of a person: what it is, why it is kept, for how long, and of whom.
create table app.personal_data (
  relation text not null,
  col text not null,
  category text not null, -- such as `contact`, `identity`, `bank`
  purpose text not null,
  legal_basis text not null check (legal_basis in ('consent', 'contract', 'legal obligation', 'vital interests', 'public task',
    'legitimate interests')), -- GDPR, article 6 (1)
  kept text not null, -- until when, such as `10 years after the last order`
  subject text, -- the column that says whose it is; null: the row's own id
  primary key (relation, col)
);
select app.shared_table('app.personal_data', 'the register of personal data: what the export, the erasure and the record follow');

-- The commitment to one value of an entry. What opens it is the value and sha256(salt, path), which tells nothing of others.
create function app.commitment(salt bytea, path text, value text) returns text
language sql immutable parallel safe
return encode(sha256(sha256(salt || convert_to(path, 'UTF8')) || convert_to(value, 'UTF8')), 'hex');

-- The fields of an entry as they are sealed: `{"personal": value}` becomes `{"commitment": …}`, what is erased is that already.
create function app.committed(fields jsonb, salt bytea, path text) returns jsonb
language sql immutable parallel safe
begin atomic
  select case when fields is null or not jsonb_path_exists(fields, '$.*.personal') then fields else (
    select jsonb_object_agg(f.key, case when jsonb_typeof(f.value) = 'object' and f.value ? 'personal'
        then jsonb_build_object('commitment', app.commitment(salt, path || '.' || f.key, f.value ->> 'personal'))
        else f.value end)
    from jsonb_each(fields) f) end;
end;

-- Writes one audit row for the current tenant and returns its number, as before. Call it last: it holds the tenant's head.
create or replace function app.audit(
  action text,
  resource text,
  resource_id text,
  before jsonb default null,
  after jsonb default null,
  outcome text default 'success',
  details jsonb default null
) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  head public.audit_heads;
begin
  update public.audit_heads h set seq = h.seq + 1, last_at = greatest(h.last_at, clock_timestamp())
    where h.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid returning h.* into head;
  if head.seq is null then
    raise exception 'audit(%): no tenant is set, or it has no row in audit_heads', action
      using hint = 'Audit within a tenant''s transaction.', errcode = 'insufficient_privilege';
  end if;
  insert into public.audit_log (tenant_id, seq, at, actor, action, resource, resource_id, before, after, outcome, correlation_id,
    client_ip, details)
  values (head.tenant_id, head.seq, head.last_at, coalesce(nullif(current_setting('app.actor', true), ''), 'role:' || session_user),
    audit.action, audit.resource, audit.resource_id, audit.before, audit.after, audit.outcome,
    nullif(current_setting('app.correlation_id', true), ''), nullif(current_setting('app.client_ip', true), ''), audit.details);
  return head.seq;
end $$;

-- Whether a column has changed, in words of SQL. Text is compared byte by byte, since a collation may take `a` for `A`; what
-- has no equality of its own is compared as text.
create function app.audit_differs(col name, typ oid, collation_of oid) returns text
language sql stable as $$
  with recursive base (oid) as (
    select typ union all select t.typbasetype from base join pg_catalog.pg_type t on t.oid = base.oid where t.typtype = 'd'
  ), element (oid) as (
    select case when t.typcategory = 'A' then t.typelem else t.oid end from base join pg_catalog.pg_type t on t.oid = base.oid
    where t.typtype <> 'd'
  )
  select case
    when collation_of <> 0 and t.oid < 16384 and t.typtype = 'b' and t.typcategory = 'S'
      then format('new.%1$I is distinct from old.%1$I collate "C"', col)
    when t.typtype in ('e', 'r', 'm') or exists (select from pg_catalog.pg_operator o where o.oprname = '='
        and o.oprleft = t.oid and o.oprright = t.oid and o.oprnamespace = 'pg_catalog'::regnamespace)
      and collation_of = 0
      then format('new.%1$I is distinct from old.%1$I', col)
    else format('new.%1$I::text is distinct from old.%1$I::text collate "C"', col) end
  from element join pg_catalog.pg_type t on t.oid = element.oid
$$;

-- The trigger function of one table, written for its columns. Arguments: those of its trigger.
create function app.audit_source(relation regclass, word text, key text[], masked text[]) returns text
language plpgsql stable as $$
declare
  name constant text := app.qualified(relation);
  col record;
  row_of text;
  pairs text[] := '{}';
  chunks text[] := '{}';
  changes text := '';
  types text := '';
  id text;
begin
  for col in
    select a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attname = any (masked) as is_masked, exists (select from app.personal_data p
      where p.relation = name and p.col = a.attname) as is_personal
    from pg_catalog.pg_attribute a
    where a.attrelid = audit_source.relation and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
      and a.attname <> all ('{tenant_id,updated_at,version}') and right(a.attname, 7) <> '_folded'
    order by a.attnum
  loop
    row_of := format('%L, ', col.attname) || case when col.is_masked then '''[masked]''::text'
      when col.is_personal then format('case when $.%1$I is not null then jsonb_build_object(''personal'', $.%1$I) end', col.attname)
      else format('$.%I', col.attname) end;
    pairs := pairs || row_of;
    -- A session that has planned for a column of another type must plan anew, and does so for a text that has changed.
    types := types || format('%I %s, ', col.attname, format_type(col.atttypid, col.atttypmod));
    changes := changes || format(
      E'    if %s then\n      was := was || jsonb_build_object(%s);\n      is_now := is_now || jsonb_build_object(%s);\n    end if;\n',
      app.audit_differs(col.attname, col.atttypid, col.attcollation), replace(row_of, '$.', 'old.'), replace(row_of, '$.', 'new.'));
  end loop;
  -- A function takes at most a hundred arguments.
  for n in 1 .. coalesce(array_length(pairs, 1), 0) by 40 loop
    chunks := chunks || format('jsonb_build_object(%s)', array_to_string(pairs[n : n + 39], ', '));
  end loop;
  row_of := coalesce(nullif(array_to_string(chunks, ' || '), ''), '''{}''::jsonb');
  id := (select string_agg(format('(to_jsonb($.%I) #>> ''{}'')', k), ' || '','' || ' order by i) from unnest(key) with ordinality t (k, i));
  return format($body$
-- %10$s
declare
  named constant text := current_setting('app.action', true);
  what text := %1$L;
  id text;
  was jsonb;
  is_now jsonb;
  head public.audit_heads;
begin
  if tg_op = 'INSERT' then
    what := %2$L;
    id := %3$s;
    is_now := %4$s;
  elsif tg_op = 'DELETE' then
    if exists (select from public.tenants t where t.id = old.tenant_id and t.status = 'erasing') then
      return null; -- that a row goes with its tenant is no change that somebody made
    end if;
    what := %5$L;
    id := %6$s;
    was := %7$s;
  else
    id := %3$s;
    was := '{}';
    is_now := '{}';
%8$s    if is_now = '{}' then
      return null; -- nothing but bookkeeping has changed
    end if;
  end if;
  if split_part(named, '.', 1) = %9$L then
    what := named;
  end if;
  update public.audit_heads h set seq = h.seq + 1, last_at = greatest(h.last_at, clock_timestamp())
    where h.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid returning h.* into head;
  if head.seq is null then
    raise exception 'audit(%%): no tenant is set, or it has no row in audit_heads', what
      using hint = 'Audit within a tenant''s transaction.', errcode = 'insufficient_privilege';
  end if;
  insert into public.audit_log (tenant_id, seq, at, actor, action, resource, resource_id, before, after, correlation_id, client_ip)
  values (head.tenant_id, head.seq, head.last_at, coalesce(nullif(current_setting('app.actor', true), ''), 'role:' || session_user),
    what, %9$L, id, was, is_now,
    nullif(current_setting('app.correlation_id', true), ''), nullif(current_setting('app.client_ip', true), ''));
  return null;
end $body$, word || '.updated', word || '.created', replace(id, '$.', 'new.'), replace(row_of, '$.', 'new.'), word || '.deleted',
    replace(id, '$.', 'old.'), replace(row_of, '$.', 'old.'), changes, word, regexp_replace(rtrim(types, ', '), '[\n\r]', ' ', 'g'));
end $$;

-- The name of that function: the table's, short enough.
create function app.audit_function(relation regclass) returns text
language sql stable as $$
  select 'audit_of_' || case when length(n.nspname || c.relname) > 50 then md5(app.qualified(relation))
    when n.nspname = 'public' then c.relname else n.nspname || '_' || c.relname end
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = relation
$$;

alter table app.relations
  add column audited_columns text[], -- what the function of the audit trigger was made for
  add column audit_checksum text; -- of its text

-- Makes the function of a tenant's table's audit trigger anew, where the table has become another one since.
create function app.compile_audit(relation regclass) returns void
language plpgsql as $$
declare
  name constant text := app.qualified(relation);
  made constant text := app.audit_function(relation);
  audit record;
  arguments text[];
  source text;
begin
  select t.tgargs, t.tgenabled, p.prosrc, p.proname into audit
    from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = compile_audit.relation and t.tgname = 'audit' and not t.tgisinternal;
  if not found then
    return;
  end if;
  arguments := array(select convert_from(decode(a, 'escape'), 'UTF8')
    from unnest(string_to_array(encode(audit.tgargs, 'escape'), '\000')) a limit 3);
  source := app.audit_source(relation, arguments[1], arguments[2]::text[], arguments[3]::text[]);
  if audit.proname <> made or audit.prosrc <> source then
    execute format('create or replace function app.%I() returns trigger language plpgsql security definer
      set search_path = pg_catalog, pg_temp as %L', made, source);
    execute format('revoke execute on function app.%I() from public', made);
  end if;
  if audit.proname <> made then
    execute format('drop trigger audit on %s', name);
    execute format('create constraint trigger audit after insert or update or delete on %s deferrable initially deferred
      for each row execute function app.%I(%L, %L, %L)', name, made, arguments[1], arguments[2], arguments[3]);
    if audit.tgenabled = 'D' then
      execute format('alter table %s disable trigger audit', name);
    end if;
  end if;
  update app.relations r set audit_checksum = md5(source), audited_columns = array(
      select a.attname::text from pg_catalog.pg_attribute a
      where a.attrelid = compile_audit.relation and a.attnum > 0 and not a.attisdropped order by a.attnum)
    where r.relation = name;
end $$;

-- The same for all tables, without the functions of tables that are gone. The runner calls it after each migration.
create function app.compile_audits() returns void
language plpgsql as $$
declare
  left_over text;
begin
  perform app.compile_audit(to_regclass(r.relation)) from app.relations r
    where r.kind = 'tenant' and to_regclass(r.relation) is not null order by r.ordinal;
  for left_over in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'app'::regnamespace and p.proname like 'audit\_of\_%'
      and not exists (select from pg_catalog.pg_trigger t where t.tgfoid = p.oid)
  loop
    execute format('drop function %s', left_over);
  end loop;
end $$;

-- Says that a column holds something of a person. Its values are in the audit log for as long as nobody erases them; what is
-- sealed is a commitment to each.
create function app.personal(relation regclass, col text, category text, purpose text, legal_basis text, kept text,
  subject text default null) returns void
language plpgsql as $$
declare
  name constant text := app.qualified(relation);
  missing text;
begin
  select c into missing from unnest(array[col, subject]) c where c is not null and not exists (select from pg_catalog.pg_attribute a
    where a.attrelid = relation and a.attname = c and a.attnum > 0 and not a.attisdropped);
  if missing is not null then
    raise exception 'personal(%, %): there is no column %', name, col, missing
      using hint = 'Name a column that holds something of a person, and one that says whose it is.';
  end if;
  insert into app.personal_data values (name, col, category, purpose, legal_basis, kept, subject)
    on conflict on constraint personal_data_pkey do update set category = excluded.category, purpose = excluded.purpose,
      legal_basis = excluded.legal_basis, kept = excluded.kept, subject = excluded.subject;
  perform app.compile_audit(relation);
end $$;

-- The constructor, as before; its trigger gets a function of its own.
create or replace function app.tenant_table(
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
    perform app.compile_audit(relation);
  end if;
end $$;

-- A migration may have changed a table before it changes rows.
create or replace function app.for_each_tenant(statement text) returns bigint
language plpgsql set row_security = on as $$
declare
  caller constant text := coalesce(current_setting('app.tenant_id', true), '');
  tenant uuid;
  touched bigint;
  total bigint := 0;
begin
  perform app.compile_audits();
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

select app.compile_audits();

-- Nobody who serves writes the log by himself from here on.
do $$
declare
  name text;
begin
  foreach name in array array['public.audit_log', 'public.audit_heads'] loop
    execute format('revoke insert, update, delete on %s from %I', name, current_setting('app.runtime_role'));
    update app.relations set privileges = '{select}' where relation = name;
  end loop;
end $$;
select app.system_access('public.audit_log', '{select}', 'what the system does in a tenant is in its audit log');
select app.system_access('public.audit_heads', '{select}', 'an audit row takes the tenant''s next number');

-- A row of canary-one, for the isolation proof.
set local row_security = on;
do $$
begin
  perform set_config('app.tenant_id', '00000000-0000-7000-8000-00000000c001', true);
  perform app.audit('canary.sample', 'canary', 'one');
  perform set_config('app.tenant_id', '', true);
end $$;
set local row_security = off;
update app.relations set canary = true where relation = 'public.audit_log';

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.commitment(bytea, text, text), app.committed(jsonb, bytea, text) to %I',
    current_setting('app.system_role'));
end $$;
