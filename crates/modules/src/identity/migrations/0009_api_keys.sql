-- Machines: service accounts, which hold roles as members do, and keys, by which they and members' programs come in.

create table public.service_accounts (
  id uuid not null,
  name text not null check (length(name) between 1 and 200),
  description text not null default '' check (length(description) <= 500),
  created_at timestamptz not null default now(),
  disabled_at timestamptz -- for good
);
select app.tenant_table('public.service_accounts', audit_as => 'service_account', deletable => false,
  why => 'machines of a tenant''s, which hold roles and come in by keys');

create table public.api_keys (
  id uuid not null,
  principal_id uuid not null, -- a member's id or a service account's: whose grants are the most that the key can do
  name text not null check (length(name) between 1 and 200),
  scopes text[] not null check (cardinality(scopes) between 1 and 200), -- names of permissions
  hash bytea not null check (octet_length(hash) = 32),
  previous_hash bytea check (octet_length(previous_hash) = 32), -- of the text before the rotation
  overlap_until timestamptz, -- until when that is good, too
  expires_at timestamptz,
  last_used_at timestamptz, -- to the minute
  created_at timestamptz not null default now(),
  created_by uuid not null,
  revoked_at timestamptz,
  constraint api_keys_overlap check ((previous_hash is null) = (overlap_until is null))
);
select app.tenant_table('public.api_keys', deletable => false, why => 'keys of machines: their hashes, and what they are good for',
  unaudited => 'that a key is made, rotated or revoked are entries of their own; its use is no event');
create unique index api_keys_hash on public.api_keys (tenant_id, hash);
create index api_keys_previous_hash on public.api_keys (tenant_id, previous_hash) where previous_hash is not null;
create index api_keys_principal on public.api_keys (tenant_id, principal_id) where revoked_at is null;

do $$
declare
  name text;
begin
  foreach name in array array['public.service_accounts', 'public.api_keys'] loop
    execute format('revoke insert, update, delete on %s from %I', name, current_setting('app.runtime_role'));
  end loop;
  update app.relations set privileges = '{select}' where relation in ('public.service_accounts', 'public.api_keys');
end $$;

select app.system_access('public.service_accounts', '{select,insert,update}', 'nobody gives a machine more than he has');
select app.system_access('public.api_keys', '{select,insert,update}',
  'a key says who comes before anybody is known; nobody makes one that can do more than he can');

-- Rows of canary-one, for the isolation proof.
alter table public.service_accounts disable trigger audit;
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.service_accounts (id, name) values ('00000000-0000-7000-8000-00000000cb20', 'Canary');
insert into public.api_keys (id, principal_id, name, scopes, hash, created_by)
values ('00000000-0000-7000-8000-00000000cb21', '00000000-0000-7000-8000-00000000cb20', 'Canary', '{canary.cage.open}',
  sha256('first canary'), '00000000-0000-7000-8000-00000000ca01');
set local app.tenant_id = '';
alter table public.service_accounts enable trigger audit;
update app.relations set canary = true where relation in ('public.service_accounts', 'public.api_keys');
