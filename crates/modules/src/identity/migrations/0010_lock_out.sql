-- What failed sign-ins do, on whichever instance: who guesses waits, and its owner is told. Accounts, tenants and addresses stand
-- here under keyed names, as they were typed: also of accounts that there are none of, so that no answer tells which there are.
-- Assumes 0005_sessions (the schema auth) and core/0006_private_tables.

-- Failures in a row at one account, from devices that nobody knows, or of one device that is known.
create table auth.sign_in_runs (
  key uuid primary key,
  failures integer not null check (failures >= 0),
  since timestamptz not null,
  last_at timestamptz not null,
  told_at timestamptz -- when its owner was last told
);
create index sign_in_runs_last_at on auth.sign_in_runs (last_at);
select app.private_table('auth.sign_in_runs', 'failed sign-ins in a row, by account and by known device');
select app.system_access('auth.sign_in_runs', '{select,insert,update,delete}', 'who signs in is no caller yet');

-- Which accounts were failed at from which address, for a day: many of one address are stolen pairs that somebody tries.
create table auth.sign_in_pairs (
  address uuid not null,
  account uuid not null,
  named_tenant uuid not null,
  at timestamptz not null,
  primary key (address, account)
);
create index sign_in_pairs_address on auth.sign_in_pairs (address, at);
create index sign_in_pairs_tenant on auth.sign_in_pairs (named_tenant, at);
create index sign_in_pairs_at on auth.sign_in_pairs (at);
select app.private_table('auth.sign_in_pairs', 'accounts that were failed at, by address, for a day');
select app.system_access('auth.sign_in_pairs', '{select,insert,update,delete}', 'who signs in is no caller yet');
