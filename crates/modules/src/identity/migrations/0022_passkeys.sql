-- Passkeys: a second factor whose secret never leaves its device. What is stored verifies and opens nothing.

create table auth.passkeys (
  id uuid primary key,
  person_id uuid not null references auth.people (id) on delete cascade,
  name text not null check (length(name) between 1 and 100),
  credential bytea not null constraint passkeys_credential_key unique check (octet_length(credential) between 16 and 1023),
  public_key bytea not null check (octet_length(public_key) <= 2048), -- as COSE (RFC 9052)
  sign_count bigint not null default 0, -- of an authenticator that counts
  created_at timestamptz not null default now(),
  used_at timestamptz
);
create index passkeys_person on auth.passkeys (person_id, created_at);
select app.private_table('auth.passkeys', 'the public keys of people''s passkeys');
select app.system_access('auth.passkeys', '{select,insert,update,delete}',
  'people set up and prove a second factor, whichever tenant they are in');

-- A challenge that a passkey is to answer.
alter table auth.one_time drop constraint one_time_kind_check,
  add constraint one_time_kind_check check (kind in ('reset', 'mfa', 'passkey-new', 'passkey'));
