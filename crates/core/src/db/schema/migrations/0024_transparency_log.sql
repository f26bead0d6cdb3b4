-- The audit log as a transparency log, one for each tenant (docs/decisions/0049-transparency-log.md): each row becomes an entry,
-- whose bytes are stored once; the entries are the leaves of a Merkle tree, whose root is signed about once a second by a process
-- that has the key. Nobody who has the database alone can make another past that verifies.
--
-- Requests read these tables. The system's login adds to them, and cannot change or remove what it has added.

-- A log: number 0 is opened with the tenant's first row; after a restore a further one, which begins with the last checkpoint of the
-- one before.
create table public.audit_logs (
  log int not null check (log >= 0),
  origin text not null check (origin ~ '^[!-*,-~]+$' and length(origin) <= 400), -- its name, which no other log has
  first_seq bigint not null check (first_seq > 0), -- the row of entry 1; entry 0 says whose log it is
  size bigint not null default 0 check (size >= 0), -- how many entries are sealed
  edge bytea not null default '', -- the roots of the perfect trees that the tree is made of, the largest first
  note text, -- the signed checkpoint of this size
  signed_by text, -- by which key
  last_at timestamptz, -- of the last row that is sealed
  sealed_at timestamptz,
  noted_size bigint not null default 0, -- up to here it stands in the platform's log; of the platform's, the witness knows it
  is_open boolean not null default true
);
select app.tenant_table('public.audit_logs', key => '{log}', deletable => false, why => 'what is sealed of a tenant''s audit log',
  unaudited => 'made of the audit log');
create unique index audit_logs_open on public.audit_logs (tenant_id) where is_open;

create table public.audit_entries (
  log int not null,
  index bigint not null check (index >= 0),
  leaf bytea not null check (octet_length(leaf) = 32), -- SHA-256 of 0x00 and the entry
  entry text check (octet_length(entry) <= 65536), -- null once it is erased; the leaf stays, and with it every proof
  head_of uuid -- in the platform's log: whose checkpoint it is
);
select app.tenant_table('public.audit_entries', key => '{log,index}', append_only => true,
  why => 'the audit log, as it was sealed', unaudited => 'made of the audit log');
create index audit_entries_heads on public.audit_entries (head_of, log, index) where head_of is not null;

-- Whole tiles only, of 256 hashes each: what is beyond them are leaves of entries, or roots of tiles.
create table public.audit_tiles (
  level smallint not null check (level between 0 and 7),
  log int not null,
  index bigint not null check (index >= 0),
  root bytea not null check (octet_length(root) = 32),
  hashes bytea not null check (octet_length(hashes) = 8192)
);
alter table public.audit_tiles alter column hashes set storage external; -- hashes do not compress
select app.tenant_table('public.audit_tiles', key => '{log,level,index}', append_only => true,
  why => 'the inner nodes of the tree over a tenant''s audit log', unaudited => 'made of the audit log');

-- Checkpoints that were noted in the platform's log, about one a minute; those of the platform's own log wait here for the witness.
create table public.audit_checkpoints (
  log int not null,
  size bigint not null check (size > 0),
  note text not null check (length(note) <= 2000),
  noted_at timestamptz not null default now(),
  witness text check (witness in ('waits', 'told', 'dropped'))
);
select app.tenant_table('public.audit_checkpoints', key => '{log,size}', deletable => false,
  why => 'signed checkpoints of a tenant''s audit log', unaudited => 'made of the audit log');
create index audit_checkpoints_waiting on public.audit_checkpoints (tenant_id, log, size) where witness = 'waits';

-- Signed statements that the bytes of entries were removed, and why: what has none is missing.
create table public.audit_prunings (
  log int not null,
  first bigint not null check (first >= 0),
  last bigint not null,
  note text not null check (length(note) <= 2000),
  pruned_at timestamptz not null default now(),
  constraint audit_prunings_range check (last >= first)
);
select app.tenant_table('public.audit_prunings', key => '{log,first}', append_only => true,
  why => 'which entries of a tenant''s audit log were removed, and why', unaudited => 'made of the audit log');

do $$
declare
  name text;
begin
  foreach name in array array['public.audit_logs', 'public.audit_entries', 'public.audit_tiles', 'public.audit_checkpoints',
    'public.audit_prunings']
  loop
    execute format('revoke insert, update, delete on %s from %I', name, current_setting('app.runtime_role'));
    update app.relations set privileges = '{select}', canary = true where relation = name;
  end loop;
end $$;

select app.system_access('public.audit_heads', '{select}', 'the sealer looks in all tenants for rows that are not sealed', across => true);
select app.system_access('public.audit_logs', '{select,insert,update}', 'audit rows are sealed, in all tenants', across => true);
select app.system_access('public.audit_entries', '{select,insert}',
  'audit rows are sealed; what the platform''s log says of a tenant is compared with what is signed', across => true);
select app.system_access('public.audit_tiles', '{select,insert}', 'audit rows are sealed');
select app.system_access('public.audit_checkpoints', '{select,insert,update}',
  'checkpoints of all tenants are noted in the platform''s log, and that log''s are told to the witness', across => true);
select app.system_access('public.audit_prunings', '{select,insert}', 'the entries of an erased tenant are removed, and that is signed');

-- Rows of canary-one, for the isolation proof.
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.audit_logs (log, origin, first_seq, is_open) values (1000000000, 'canary/first', 1, false);
insert into public.audit_entries (log, index, leaf) values (1000000000, 0, sha256('canary'));
insert into public.audit_tiles (log, level, index, root, hashes)
  values (1000000000, 0, 0, sha256('canary'), decode(repeat('00', 8192), 'hex'));
insert into public.audit_checkpoints (log, size, note) values (1000000000, 1, 'canary');
insert into public.audit_prunings (log, first, last, note) values (1000000000, 0, 0, 'canary');
set local app.tenant_id = '';
set local row_security = off;

-- As before; but the sealed entries of an erased tenant lose their bytes and keep their leaves, so that every proof holds, and what
-- tells of the tenant itself keeps both.
create or replace function app.erase_rows(most int, out relation text, out erased bigint) returns setof record
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  tenant constant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  kept text;
begin
  perform from public.tenants t where t.id = tenant and t.status = 'erasing';
  if not found then
    raise exception 'erase_rows: the tenant is not being erased' using errcode = 'insufficient_privilege';
  end if;
  relation := 'public.audit_entries';
  update public.audit_entries d set entry = null where d.tenant_id = tenant and (d.log, d.index) in (
    select e.log, e.index from public.audit_entries e where e.tenant_id = tenant and e.entry is not null
      and e.entry::jsonb ->> 'kind' = 'event'
      and not (e.entry::jsonb ->> 'resource' = 'tenant' and not e.entry::jsonb ?| array['before', 'after']) limit most);
  get diagnostics erased = row_count;
  if erased > 0 then
    return next;
    return;
  end if;
  for relation in select r.relation from app.relations r where r.kind = 'tenant' and r.relation <> all (array['public.audit_heads',
      'public.audit_logs', 'public.audit_entries', 'public.audit_tiles', 'public.audit_checkpoints', 'public.audit_prunings'])
    order by r.ordinal desc
  loop
    kept := case when relation = 'public.audit_log' then ' and not (resource = ''tenant'' and before is null and after is null)' else '' end;
    begin
      execute format('with part as (select ctid, tableoid from %1$s where tenant_id = $1%2$s limit $2)
        delete from %1$s d using part where d.tenant_id = $1 and d.tableoid = part.tableoid and d.ctid = part.ctid', relation, kept)
        using tenant, most;
    exception when foreign_key_violation then -- rows of it refer to one another
      execute format('delete from %s where tenant_id = $1%s', relation, kept) using tenant;
    end;
    get diagnostics erased = row_count;
    if erased > 0 then
      return next;
      return;
    end if;
  end loop;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.erase_rows(int) from public;

do $$
begin
  execute format('grant execute on function app.erase_rows(int) to %I', current_setting('app.system_role'));
end $$;
