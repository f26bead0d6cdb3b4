-- People who come without an invitation, where their tenant lets them: the link that they get is that of an invitation which nobody
-- has given. Assumes 0006_members and 0005_sessions (the schema auth).

alter table public.invitations
  add column registered boolean not null default false, -- by the person itself
  add constraint invitations_registered check (not registered or invited_by is null);

-- How many mails a mailbox got within a day since somebody has registered with it, and a tenant has sent: each under a keyed name.
create table auth.registration_mails (
  key uuid primary key,
  mails integer not null check (mails > 0),
  since timestamptz not null
);
create index registration_mails_since on auth.registration_mails (since);
select app.private_table('auth.registration_mails', 'mails to those who register, by mailbox and by tenant, for a day');
select app.system_access('auth.registration_mails', '{select,insert,update,delete}', 'who registers is no caller');
