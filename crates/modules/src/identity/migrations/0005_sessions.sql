-- What belongs to people alone moves out of every tenant's reach, into the schema `auth`: the runtime role has a right to none of
-- its tables.
-- What a tenant knows of a member, its name and address, are copies that stand in the membership: somebody who has left takes
-- later addresses along. And people get sessions, of which each access token names one.
--
-- The version before cannot work on this schema: stop its instances first.

set local row_security = on;

create schema auth;

do $$
begin
  -- It sees that there are tables, and no more: the isolation proof looks at what it may do with them.
  execute format('grant usage on schema auth to %I', current_setting('app.runtime_role'));
end $$;

drop policy member on public.users;
drop policy owner on public.users;
drop policy if exists system on public.users;
alter table public.users no force row level security;
alter table public.users disable row level security;
alter table public.users set schema auth;
alter table auth.users rename to people;
alter table auth.people rename constraint users_email_key to people_email_key;

do $$
begin
  execute format('revoke all on auth.people from public, %I, %I',
    current_setting('app.runtime_role'), current_setting('app.system_role'));
  update app.relations set relation = 'auth.people', kind = 'private', privileges = '{}', system_privileges = '{}',
      system_why = null, system_across = false, why = 'people, of whichever tenants: what only they and the system know'
    where relation = 'public.users';
end $$;

create table auth.passwords (
  person_id uuid primary key references auth.people (id) on delete cascade,
  phc text not null check (length(phc) <= 1024),
  set_at timestamptz not null default now()
);
select app.private_table('auth.passwords', 'the hashes of passwords');
insert into auth.passwords (person_id, phc, set_at)
  select id, password_hash, created_at from auth.people where password_hash is not null;
alter table auth.people drop column password_hash;

-- Copies, refreshed while the membership lasts.
alter table public.memberships
  add column email text check (length(email) between 3 and 254),
  add column name text not null default '' check (length(name) <= 200),
  add column deactivated_at timestamptz, -- an administrator's pause
  add column disabled_at timestamptz; -- a copy: the person's, by an operator
alter table public.memberships disable trigger audit; -- nothing has changed for anybody
select app.for_each_tenant('update public.memberships m set email = p.email, name = p.name, disabled_at = p.disabled_at from auth.people p
  where p.id = m.user_id');
alter table public.memberships enable trigger audit;
alter table public.memberships alter column email set not null;
-- The audit log outlives people's data: it has ids only.
drop trigger audit on public.memberships;
create constraint trigger audit after insert or update or delete on public.memberships deferrable initially deferred
  for each row execute function app.audit_change('membership', '{user_id}', '{email,name}');

-- One row a session, which lasts over all its tokens. Each refresh replaces the secret; of those before only that they led
-- to this one can be shown, by the key that made them (decision 0027).
create table public.sessions (
  id uuid not null,
  principal_id uuid not null,
  generation integer not null default 0 check (generation >= 0),
  secret_hash bytea not null check (octet_length(secret_hash) = 32),
  key_id text not null, -- of the key that derives the next secret
  key_since integer not null default 0, -- the generation from which it does
  key_before text, -- the one before
  created_at timestamptz not null default now(),
  rotated_at timestamptz not null default now(),
  auth_time timestamptz not null, -- when its person has last proven who it is
  amr text[] not null, -- by what (RFC 8176)
  device text not null default '' check (length(device) <= 100),
  address inet,
  idle_at timestamptz not null, -- unless it is used before
  expires_at timestamptz not null,
  revoked_at timestamptz,
  reason text check (reason in ('signed-out', 'ended', 'replaced', 'password', 'reuse', 'removed')),
  constraint sessions_revoked check ((revoked_at is null) = (reason is null))
);
select app.tenant_table('public.sessions', why => 'who is signed in, and from where',
  unaudited => 'sign-in, sign-out and what ends a session are entries of their own; a refresh is no event');
create index sessions_principal on public.sessions (principal_id, created_at) where revoked_at is null;
create index sessions_expires_at on public.sessions (expires_at);

do $$
begin
  execute format('revoke insert, update, delete on public.sessions from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select}' where relation = 'public.sessions';
end $$;

select app.system_access('auth.people', '{select,insert,update}',
  'sign-in finds the account of an address; an invitation that is accepted makes one');
select app.system_access('auth.passwords', '{select,insert,update}', 'sign-in verifies a password, and people set theirs');
select app.system_access('public.sessions', '{select,insert,update,delete}',
  'sign-in begins a session, a token of which is known before its tenant; a new password ends those of all tenants', across => true);

-- A row of canary-one, for the isolation proof, and somebody for the rows that the system's login adds there.
insert into auth.people (id, email, name, disabled_at) values
  ('00000000-0000-7000-8000-00000000ca02', 'second-canary@erp.invalid', 'Canary', now());
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.sessions (id, principal_id, secret_hash, key_id, auth_time, amr, idle_at, expires_at)
values ('00000000-0000-7000-8000-00000000cb04', '00000000-0000-7000-8000-00000000ca01', sha256('canary'), 'canary', now(), '{pwd}', now(), now());
set local app.tenant_id = '';
update app.relations set canary = true where relation = 'public.sessions';
