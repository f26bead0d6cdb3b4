-- Envelope keys and encrypted columns (docs/decisions/0051-envelope-keys.md).
--
-- A tenant has one data key in versions, wrapped by a key of the deployment that no database has. What is encrypted names its version
-- and opens in its own row and column only. Here stand the wrapped keys, which columns are encrypted, and what a rotation needs.

create table public.tenant_keys (
  tenant uuid not null references public.tenants (id),
  version int not null check (version between 1 and 999999999),
  wrapped text check (length(wrapped) between 16 and 4000),
  wrapped_by text check (length(wrapped_by) between 1 and 200), -- the name of the key that has
  created_at timestamptz not null default now(),
  retired_at timestamptz, -- from then on it opens nothing
  destroyed_at timestamptz,
  primary key (tenant, version),
  check ((wrapped is null) = (destroyed_at is not null) and (wrapped is null) = (wrapped_by is null))
);
select app.private_table('public.tenant_keys', 'the wrapped data keys of tenants');
select app.system_access('public.tenant_keys', '{select,insert,update}',
  'the process opens the data keys of tenants, adds versions and destroys them; requests have no use for a wrapped key');

-- A key that was destroyed does not come back.
create function app.keep_destroyed() returns trigger
language plpgsql as $$
begin
  if old.destroyed_at is not null then
    raise exception 'tenant_keys: the key is destroyed' using errcode = 'insufficient_privilege';
  end if;
  return new;
end $$;
create trigger destroyed before update on public.tenant_keys for each row execute function app.keep_destroyed();

-- Which columns are encrypted, and by which column of type uuid a row of the table is known.
create table app.encrypted_columns (
  relation text not null,
  col text not null,
  key text not null,
  known_as text not null, -- the column's name in what is authenticated
  form text not null check (form in ('text', 'bytes')),
  indexed boolean not null default false, -- beside it stands a blind index, the column col || '_index'
  tenants boolean not null, -- false: the rows are the platform's
  primary key (relation, col)
);
select app.private_table('app.encrypted_columns', 'which columns are encrypted');
select app.system_access('app.encrypted_columns', '{select}', 'a process compares them with the encrypted fields of its records');

-- Lets a column hold ciphertexts and nothing else: `app.encrypted_column('public.suppliers', 'iban')`. The record of the table has
-- the field as `Encrypted<…>`.
--
--   indexed  beside it stands a blind index, for looking a value up: a column of type text, called as this one and `_index`
--
--   known_as the column that a ciphertext was written for, where it moves from there to this one
--
-- A column of type bytea holds the same text, as bytes; or what was written before there were keys of tenants.
create function app.encrypted_column(relation regclass, col text, indexed boolean default false, known_as text default null) returns void
language plpgsql set search_path = pg_catalog as $$
declare
  name constant text := app.qualified(relation);
  bare constant text := (select c.relname from pg_class c where c.oid = relation);
  kind constant text := (select r.kind from app.relations r where r.relation = name);
  key constant text[] := array(select a.attname::text from pg_constraint c
    cross join unnest(c.conkey) k (number) join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number
    where c.conrelid = encrypted_column.relation and c.contype = 'p' and a.attname <> 'tenant_id' and a.atttypid = 'uuid'::regtype);
  columns constant int := (select cardinality(c.conkey) from pg_constraint c where c.conrelid = encrypted_column.relation and c.contype = 'p');
  type regtype;
begin
  if kind is null or kind not in ('tenant', 'private') then
    raise exception 'encrypted_column(%): it is no tenant''s table', name using hint = 'Hand it to app.tenant_table first.';
  end if;
  if cardinality(key) <> 1 or columns <> (case when kind = 'tenant' then 2 else 1 end) then
    raise exception 'encrypted_column(%): a ciphertext belongs to one row, and the table''s key is not one id', name
      using hint = 'Give it "id uuid not null" for its key.';
  end if;
  select a.atttypid into type from pg_attribute a
    where a.attrelid = encrypted_column.relation and a.attname = col and a.attnum > 0 and not a.attisdropped;
  if type is null or type not in ('text'::regtype, 'bytea'::regtype) then
    raise exception 'encrypted_column(%): there is no column % of type text', name, col
      using hint = 'A ciphertext is a text, whatever is encrypted: the record''s field says what that is.';
  end if;
  if type = 'text'::regtype then
    execute format('alter table %s add constraint %I check (%I ~ ''^[vs][1-9][0-9]{0,8}:[A-Za-z0-9_-]{38,}$'')',
      name, left(bare || '_' || col, 52) || '_encrypted', col);
  end if;
  if indexed then
    if not exists (select from pg_attribute a where a.attrelid = encrypted_column.relation and a.attname = col || '_index'
        and a.attnum > 0 and not a.attisdropped and a.atttypid = 'text'::regtype) then
      raise exception 'encrypted_column(%): there is no column %_index of type text', name, col
        using hint = 'Add it: the blind index stands there.';
    end if;
    execute format('alter table %s add constraint %I check (%I ~ ''^v[1-9][0-9]{0,8}:[A-Za-z0-9_-]{22}$'' and (%I is null) = (%I is null))',
      name, left(bare || '_' || col, 50) || '_index_blind', col || '_index', col || '_index', col);
    execute format('create index %I on %s (tenant_id, %I)', left(bare || '_' || col, 56) || '_blind', name, col || '_index');
  end if;
  insert into app.encrypted_columns (relation, col, key, known_as, form, indexed, tenants)
    values (name, col, key[1], coalesce(known_as, col), case when type = 'text'::regtype then 'text' else 'bytes' end, indexed, kind = 'tenant');
end $$;

-- The row of the registry, of a table that the tenant which is set has rows in.
create function app.encrypted_column_of(relation text, col text) returns app.encrypted_columns
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  found_column app.encrypted_columns;
begin
  select * into found_column from app.encrypted_columns e where e.relation = encrypted_column_of.relation and e.col = encrypted_column_of.col
    and e.tenants = (nullif(current_setting('app.tenant_id', true), '')::uuid <> '00000000-0000-7000-8000-00000000c000');
  if not found then
    raise exception '%.%: it is no encrypted column', relation, col using errcode = 'insufficient_privilege';
  end if;
  return found_column;
end $$;

-- Which rows of it are meant: the tenant's, or of a table of the platform all.
create function app.encrypted_scope(of_tenants boolean) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case when of_tenants then 'tenant_id = $1' else '$1 is not null' end
$$;

-- A ciphertext as text; of one in a form from before nothing but that it is there.
create function app.encrypted_text(form text, col text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
  select case when form = 'text' then format('%I', col)
    else format('case when octet_length(%1$I) > 0 and get_byte(%1$I, 0) = 118 then convert_from(%1$I, ''UTF8'') else ''v0:'' end', col) end
$$;

-- How many ciphertexts of the tenant that is set there are of each version, and in which columns; version 0 is a form from before.
create function app.encrypted_counts(out relation text, out col text, out version int, out number bigint) returns setof record
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  tenant constant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  e app.encrypted_columns;
begin
  for e in select * from app.encrypted_columns x where x.tenants = (tenant <> '00000000-0000-7000-8000-00000000c000')
    order by x.relation, x.col
  loop
    return query execute format('select %L::text, %L::text, c.version, count(*) from (
        select case when t.sealed like ''v%%'' then substr(split_part(t.sealed, '':'', 1), 2)::int end as version
        from (select %s as sealed from %s where %s and %I is not null) t) c
      where c.version is not null group by c.version order by c.version',
      e.relation, e.col, app.encrypted_text(e.form, e.col), e.relation, app.encrypted_scope(e.tenants), e.col) using tenant;
  end loop;
end $$;

-- So many ciphertexts of a column that are of another version than `current`, by the ids of their rows, after one.
create function app.encrypted_page(relation text, col text, current int, after uuid, most int, out row_id uuid, out sealed text)
returns setof record
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  tenant constant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  e constant app.encrypted_columns := app.encrypted_column_of(relation, col);
begin
  return query execute format('select t.key, t.sealed from (select %I as key, %s as sealed from %s where %s and %I > $2 and %I is not null) t
    where t.sealed like ''v%%'' and t.sealed not like $3 and t.sealed <> ''v0:'' order by t.key limit $4',
    e.key, app.encrypted_text(e.form, e.col), e.relation, app.encrypted_scope(e.tenants), e.key, e.col)
    using tenant, after, 'v' || current || ':%', most;
end $$;

-- Puts another ciphertext of the same value in the place of one, unless the row has changed meanwhile: whether it has. What the row
-- means has not changed, so that its version and its time stay.
create function app.reseal(relation text, col text, row_id uuid, was text, is_now text, index text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  tenant constant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  e constant app.encrypted_columns := app.encrypted_column_of(relation, col);
  changed bigint;
begin
  execute format('update %s set %I = %s%s where %s and %I = $2 and %I = %s', e.relation,
      e.col, case when e.form = 'text' then '$4' else 'convert_to($4, ''UTF8'')' end,
      case when e.indexed then format(', %I = $5', e.col || '_index') else '' end,
      app.encrypted_scope(e.tenants), e.key, e.col, case when e.form = 'text' then '$3' else 'convert_to($3, ''UTF8'')' end)
    using tenant, row_id, was, is_now, index;
  get diagnostics changed = row_count;
  return changed > 0;
end $$;

-- As before; but another ciphertext of the same value is no other version of the row. It is put there by a function of the owner's,
-- the only one that changes rows of a version.
create or replace function app.keep_version() returns trigger
language plpgsql as $$
begin
  if current_user <> session_user then
    return new;
  end if;
  new.version := old.version + 1;
  new.updated_at := now();
  return new;
end $$;

-- Keys of single subjects, such as a person: encrypted with the tenant's, so that one of them can be destroyed while the tenant's stays.
create table public.subject_keys (
  id uuid not null, -- the subject
  sealed text,
  created_at timestamptz not null default now(),
  destroyed_at timestamptz,
  check ((sealed is null) = (destroyed_at is not null))
);
select app.tenant_table('public.subject_keys', deletable => false, why => 'keys of single subjects',
  unaudited => 'what is done to a subject is audited where it is done');
select app.encrypted_column('public.subject_keys', 'sealed');

-- The key of a file's bytes; null where they were stored before there were such keys.
alter table public.files add column content_key text;
select app.encrypted_column('public.files', 'content_key');

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.encrypted_counts(), app.encrypted_page(text, text, int, uuid, int),
    app.reseal(text, text, uuid, text, text, text) to %I', current_setting('app.system_role'));
end $$;
