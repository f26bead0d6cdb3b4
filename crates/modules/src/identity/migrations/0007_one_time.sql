-- Links that are good once. One that sets a password never works as another, since its kind is part of the key.
create table auth.one_time (
  kind text not null check (kind in ('reset')),
  hash bytea not null check (octet_length(hash) = 32),
  person_id uuid not null references auth.people (id) on delete cascade,
  expires_at timestamptz not null,
  used_at timestamptz,
  primary key (kind, hash)
);
create index one_time_person on auth.one_time (person_id);
select app.private_table('auth.one_time', 'the hashes of links that are good once');
select app.system_access('auth.one_time', '{select,insert,update,delete}', 'who has forgotten a password is no caller');
