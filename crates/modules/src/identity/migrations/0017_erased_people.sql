-- People who were erased, and whom other services vouch for.
-- Assumes 0005_sessions (the schema auth).

alter table auth.people add column erased_at timestamptz; -- the row stays for what refers to it, without a name or an address

-- Whom another service signs in, by what it calls itself and the person (OpenID Connect: `iss` and `sub`). Nobody needs a password
-- to be a person, and nobody needs a row here.
create table auth.identities (
  issuer text not null check (length(issuer) between 1 and 500),
  subject text not null check (length(subject) between 1 and 255),
  person_id uuid not null references auth.people (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (issuer, subject)
);
create index identities_person on auth.identities (person_id);
select app.private_table('auth.identities', 'whom other services vouch for');
select app.system_access('auth.identities', '{select,delete}', 'they are forgotten with their person');
