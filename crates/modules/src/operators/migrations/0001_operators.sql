-- Operators of the platform: no members of any tenant, with passwords, second factors and sessions of their own. Nothing that
-- belongs to a tenant's people leads here, nor the other way round.
-- Assumes identity/0005_sessions, which makes the schema auth.

create table auth.operators (
  id uuid primary key,
  email text not null constraint operators_email_key unique
    check (email = lower(email) and email is nfc normalized and length(email) between 3 and 254),
  phc text check (length(phc) <= 1024),
  -- The one-time secret by which a password and a factor are set: only while there is none.
  secret_hash bytea unique check (octet_length(secret_hash) = 32),
  secret_until timestamptz,
  invited_by uuid references auth.operators (id), -- null: by the command line
  created_at timestamptz not null default now(),
  enrolled_at timestamptz, -- since when it can sign in
  disabled_at timestamptz,
  constraint operators_secret check ((secret_hash is null) = (secret_until is null)),
  constraint operators_enrolled check (enrolled_at is null or (phc is not null and secret_hash is null and disabled_at is null))
);
select app.private_table('auth.operators', 'who operates the platform: members of no tenant');
select app.system_access('auth.operators', '{select,insert,update}', 'operators sign in, and invite and disable one another');

create table auth.operator_factors (
  id uuid primary key,
  operator_id uuid not null references auth.operators (id),
  kind text not null check (kind in ('totp')),
  secret_sealed bytea not null check (octet_length(secret_sealed) <= 256),
  last_step bigint not null default 0, -- the step of the last code that was good: none before it is
  confirmed_at timestamptz, -- until then it is no factor
  created_at timestamptz not null default now()
);
create unique index operator_factors_confirmed on auth.operator_factors (operator_id, kind) where confirmed_at is not null;
create unique index operator_factors_begun on auth.operator_factors (operator_id, kind) where confirmed_at is null;
select app.private_table('auth.operator_factors', 'the sealed secrets of operators'' second factors');
select app.system_access('auth.operator_factors', '{select,insert,update,delete}', 'operators set up and prove a second factor');

create table auth.operator_recovery_codes (
  operator_id uuid not null references auth.operators (id),
  hash bytea not null check (octet_length(hash) = 32),
  used_at timestamptz,
  primary key (operator_id, hash)
);
select app.private_table('auth.operator_recovery_codes', 'the hashes of operators'' codes that are good once');
select app.system_access('auth.operator_recovery_codes', '{select,insert,update,delete}', 'each is good once');

create table auth.operator_factor_failures (
  id bigint generated always as identity primary key,
  operator_id uuid not null references auth.operators (id),
  at timestamptz not null default now()
);
create index operator_factor_failures_operator on auth.operator_factor_failures (operator_id, at);
select app.private_table('auth.operator_factor_failures', 'operators'' wrong codes, for a day');
select app.system_access('auth.operator_factor_failures', '{select,insert,delete}', 'few wrong codes are let through, over all instances');

create table auth.operator_sessions (
  id uuid primary key,
  operator_id uuid not null references auth.operators (id),
  secret_hash bytea not null unique check (octet_length(secret_hash) = 32),
  device text not null default '' check (length(device) <= 100),
  address inet,
  created_at timestamptz not null default now(),
  used_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz
);
create index operator_sessions_operator on auth.operator_sessions (operator_id) where ended_at is null;
select app.private_table('auth.operator_sessions', 'who operates just now, and from where');
select app.system_access('auth.operator_sessions', '{select,insert,update}', 'each request of an operator asks whether its session lasts');

-- What operators do that concerns no tenant; what they do in one stands in that tenant's audit log.
create table auth.operator_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  actor text not null,
  action text not null,
  subject text,
  details jsonb not null,
  correlation_id text not null
);
select app.private_table('auth.operator_log', 'what operators have done that concerns no tenant');
select app.system_access('auth.operator_log', '{select,insert}', 'an entry is added with what it tells of, and none is changed');
