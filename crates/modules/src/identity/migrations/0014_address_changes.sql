-- A person's address, changed by its owner: the new one confirms, and the old one is told and can undo it for a week.
-- Assumes 0005_sessions (the schema auth) and 0006_members.
create table auth.address_changes (
  hash bytea primary key check (octet_length(hash) = 32), -- of the link to the new address
  person_id uuid not null references auth.people (id) on delete cascade,
  old_email text not null check (length(old_email) between 3 and 254),
  new_email text not null check (length(new_email) between 3 and 254),
  expires_at timestamptz not null,
  confirmed_at timestamptz,
  undo_hash bytea unique check (octet_length(undo_hash) = 32), -- of the link to the old address
  undo_until timestamptz
);
create index address_changes_person on auth.address_changes (person_id);
select app.private_table('auth.address_changes', 'addresses that people change to, until they are confirmed and can be undone no more');
select app.system_access('auth.address_changes', '{select,insert,update,delete}', 'who opens the link of a mail is no caller');
select app.system_access('auth.passwords', '{select,insert,update,delete}',
  'sign-in verifies a password, and people set theirs; it ends where an address is taken back from a thief');
-- The copies of an address are in all tenants of its person.
select app.system_access('public.memberships', '{select,insert,update}',
  'sign-in finds out who belongs to the tenant that is named; members are made, paused and removed; a new address is copied to all',
  across => true);
