-- Files of tenants (docs/decisions/0023-files.md). A row says what is known of a file; its bytes are an object of the store
-- under the tenant's id and the row's.
--
-- No object is ever without a row. It is written down here before the first of its bytes is stored, in a transaction of its
-- own; the transaction that makes the file takes it over, and one that deletes the file gives it back. So what a crash leaves in
-- the store is found by a statement, and not by walking through the store.

create table public.files (
  id uuid not null,
  kind text not null check (kind ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  name text not null check (octet_length(name) between 1 and 255),
  media_type text not null check (length(media_type) between 3 and 127),
  bytes bigint not null check (bytes >= 0),
  sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  created_by uuid, -- the principal; null for work of the system
  created_at timestamptz not null default now(),
  expires_at timestamptz, -- from then on it is not shown, and the next sweep removes it
  removed_at timestamptz -- its time was over while a row still owned it: its bytes are gone
);

-- Objects that no file refers to: uploads under way, what is left of those that never ended, and what is to be removed.
create table public.unreferenced_objects (
  id uuid not null,
  bytes bigint not null check (bytes >= 0), -- what it counts for in the quota
  since timestamptz not null default now(),
  removing boolean not null default false -- somebody removes it, and no file can take it over any more
);

-- How much a tenant's objects take, those that no file refers to included.
create table public.file_usage (
  bytes bigint not null default 0 check (bytes >= 0),
  quota bigint check (quota >= 0) -- the tenant's own; else FILES_TENANT_QUOTA
);

select app.tenant_table('public.files', audit_as => 'file', why => 'what is known of a tenant''s files');
select app.tenant_table('public.unreferenced_objects', why => 'what the store holds beside a tenant''s files',
  unaudited => 'the file that it becomes, or was, is audited');
select app.tenant_table('public.file_usage', key => '{}', deletable => false, why => 'how much a tenant''s files take',
  unaudited => 'a counter; the files are audited');

create index files_created_at_idx on public.files (tenant_id, created_at);
create index files_expires_at_idx on public.files (tenant_id, expires_at) where expires_at is not null and removed_at is null;
create index unreferenced_objects_since_idx on public.unreferenced_objects (tenant_id, since);

select app.system_access('public.files', '{select}', 'a link to a file works without a credential; operators verify the store');
select app.system_access('public.unreferenced_objects', '{select,insert,update,delete}', 'operators sweep the store');
select app.system_access('public.file_usage', '{select,insert,update}', 'operators sweep the store, and set quotas');

set local row_security = on; -- a function in SQL is checked as it is made, as if it ran

-- Lets an object count for so many bytes, one that is new or one that grows or shrinks. False where the quota does not allow it;
-- to shrink is always allowed. `used` is what the tenant's objects take then.
create function app.reserve_object(object uuid, want bigint, quota bigint, out reserved boolean, out used bigint)
language plpgsql as $$
declare
  had bigint;
begin
  insert into public.file_usage default values on conflict do nothing;
  select o.bytes into had from public.unreferenced_objects o where o.id = object;
  had := coalesce(had, 0);
  update public.file_usage u set bytes = u.bytes + want - had
    where want <= had or u.bytes + want - had <= coalesce(u.quota, reserve_object.quota)
    returning u.bytes into used;
  reserved := found;
  if reserved then
    insert into public.unreferenced_objects as o (id, bytes) values (object, want)
    on conflict on constraint unreferenced_objects_pkey do update set bytes = excluded.bytes, since = excluded.since;
  else
    select u.bytes into used from public.file_usage u;
  end if;
end $$;

-- Forgets objects that have been removed from the store, and gives their part of the quota back: once, however often it is said.
create function app.forget_objects(objects uuid[]) returns bigint
language sql as $$
  with gone as (
    delete from public.unreferenced_objects where id = any (objects) and removing returning bytes
  )
  update public.file_usage set bytes = bytes - coalesce((select sum(bytes) from gone), 0) returning bytes
$$;

-- Gives objects back that files referred to, and enqueues the jobs that remove them from the store after the commit.
create function app.release_objects(tenant uuid, objects uuid[], sizes bigint[]) returns void
language plpgsql as $$
begin
  insert into public.unreferenced_objects (tenant_id, id, bytes)
    select tenant, o.id, o.bytes from unnest(objects, sizes) o (id, bytes);
  perform app.enqueue(jsonb_agg(jsonb_build_object(
      'id', (lpad(to_hex(floor(extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
        || overlay(substr(replace(gen_random_uuid()::text, '-', ''), 13) placing '7' from 1 for 1))::uuid,
      'kind', 'files.remove', 'priority', 2, 'attempts', 12, 'system', 'files', 'origin', 'files',
      'args', jsonb_build_object('objects', b.ids))))
    from (select array_agg(n.id) as ids from (select o.id, (o.place - 1) / 200 as batch
      from unnest(objects) with ordinality o (id, place)) n group by n.batch) b;
end $$;

create function app.release_deleted_files() returns trigger
language plpgsql as $$
begin
  perform app.release_objects(g.tenant_id, array_agg(g.id), array_agg(g.bytes))
    from gone g where g.removed_at is null group by g.tenant_id;
  return null;
end $$;

create trigger release after delete on public.files referencing old table as gone
  for each statement execute function app.release_deleted_files();

-- Ends the files whose time is over, so many at most. Where a row owns one, the file stays without its bytes, until it is deleted
-- with that row; others are deleted.
create function app.expire_files(most int) returns bigint
language plpgsql as $$
declare
  over public.files;
  ended bigint := 0;
begin
  for over in select * from public.files f where f.expires_at <= now() and f.removed_at is null
    order by f.expires_at limit most for update skip locked
  loop
    begin
      delete from public.files f where f.tenant_id = over.tenant_id and f.id = over.id;
    exception when foreign_key_violation then
      update public.files f set removed_at = now() where f.tenant_id = over.tenant_id and f.id = over.id;
      perform app.release_objects(over.tenant_id, array[over.id], array[over.bytes]);
    end;
    ended := ended + 1;
  end loop;
  return ended;
end $$;

-- The trigger of tables whose rows own a file.
create function app.delete_owned_file() returns trigger
language plpgsql as $$
declare
  was constant uuid := (to_jsonb(old) ->> tg_argv[0])::uuid;
  is_now constant uuid := case when tg_op = 'UPDATE' then (to_jsonb(new) ->> tg_argv[0])::uuid end;
begin
  if was is distinct from is_now then
    delete from public.files f where f.tenant_id = old.tenant_id and f.id = was;
  end if;
  return null;
end $$;

-- Lets each row of a tenant's table own a file: the column refers to it, no other row has the same one, and it is deleted when
-- the row is, or when the column changes.
create function app.owns_file(relation regclass, col text) returns void
language plpgsql as $$
declare
  name constant text := app.qualified(relation);
  id constant text := (select c.relname from pg_catalog.pg_class c where c.oid = relation);
begin
  perform app.tenant_reference(relation, col, 'public.files');
  execute format('drop index %I.%I', (select n.nspname from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = relation), id || '_' || col || '_idx');
  execute format('create unique index %I on %s (tenant_id, %I)', id || '_' || col || '_idx', name, col);
  execute format('create trigger %I after delete or update of %I on %s for each row execute function app.delete_owned_file(%L)',
    'owns_' || col, col, name, col);
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
declare
  runtime constant text := current_setting('app.runtime_role');
  login constant text := current_setting('app.system_role');
begin
  execute format('grant execute on function app.reserve_object(uuid, bigint, bigint), app.release_objects(uuid, uuid[], bigint[]),
    app.expire_files(int) to %I', runtime);
  execute format('grant execute on function app.forget_objects(uuid[]) to %I, %I', runtime, login);
end $$;
