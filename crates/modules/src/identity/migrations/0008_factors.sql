-- The second factor: an authenticator app, and codes for those who have lost it.
create table auth.factors (
  id uuid primary key,
  person_id uuid not null references auth.people (id) on delete cascade,
  kind text not null check (kind in ('totp')),
  secret_sealed bytea not null check (octet_length(secret_sealed) <= 256),
  last_step bigint not null default 0, -- the step of the last code that was good: none before it is
  confirmed_at timestamptz, -- until then it is no factor
  created_at timestamptz not null default now()
);
create unique index factors_confirmed on auth.factors (person_id, kind) where confirmed_at is not null;
create unique index factors_begun on auth.factors (person_id, kind) where confirmed_at is null;
select app.private_table('auth.factors', 'the sealed secrets of second factors');
select app.system_access('auth.factors', '{select,insert,update,delete}', 'people set up and prove a second factor, whichever tenant they are in');

create table auth.recovery_codes (
  person_id uuid not null references auth.people (id) on delete cascade,
  hash bytea not null check (octet_length(hash) = 32),
  used_at timestamptz,
  primary key (person_id, hash)
);
select app.private_table('auth.recovery_codes', 'the hashes of codes that are good once, in the place of a second factor');
select app.system_access('auth.recovery_codes', '{select,insert,update,delete}', 'people make them, and each is good once');

-- Of all sign-ins of a person, from wherever and in whichever tenant.
create table auth.factor_failures (
  id bigint generated always as identity primary key,
  person_id uuid not null references auth.people (id) on delete cascade,
  at timestamptz not null default now()
);
create index factor_failures_person on auth.factor_failures (person_id, at);
select app.private_table('auth.factor_failures', 'wrong codes of second factors, for a day');
select app.system_access('auth.factor_failures', '{select,insert,delete}', 'few wrong codes are let through, over all instances');

-- A sign-in that waits for the second factor.
alter table auth.one_time drop constraint one_time_kind_check,
  add constraint one_time_kind_check check (kind in ('reset', 'mfa'));
