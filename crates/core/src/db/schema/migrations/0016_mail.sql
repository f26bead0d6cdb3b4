-- Mails: what is sent to people, from the request that gives rise to it to what the mail server said
-- (docs/decisions/0024-mail.md).
--
-- A mail is written by the transaction that enqueues it, whole, and sent by the job of the same id. What it says is personal
-- data: it is removed after MAIL_RETENTION_DAYS, and what is confidential as soon as it is sent.

create table public.mails (
  id uuid not null, -- that of its job, too
  template text not null check (template ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  recipient text not null check (length(recipient) between 3 and 254 and recipient !~ '[[:cntrl:][:space:]]'),
  recipient_name text check (length(recipient_name) between 1 and 200 and recipient_name !~ '[[:cntrl:]]'),
  locale text not null check (length(locale) between 2 and 35),
  subject text not null check (length(subject) between 1 and 255 and subject !~ '[[:cntrl:]]'),
  text text, -- null once it is removed
  html text,
  promotional boolean not null, -- not for those who have unsubscribed
  confidential boolean not null, -- shown to nobody, and removed once it is sent
  message_id text not null check (length(message_id) between 3 and 320 and message_id !~ '[[:cntrl:][:space:]]'),
  state text not null check (state in ('queued', 'sent', 'held', 'failed', 'suppressed')),
  attempts smallint not null default 0 check (attempts >= 0),
  error text check (length(error) <= 200), -- the stage and the codes of the last failure
  queued_at timestamptz not null default now(),
  ended_at timestamptz, -- when it was sent, held, suppressed or given up
  constraint mails_bounded check (coalesce(octet_length(text), 0) + coalesce(octet_length(html), 0) <= 262144),
  constraint mails_ended check ((state = 'queued') = (ended_at is null))
);

-- Addresses that get no more mail of a tenant: nobody is there, or somebody does not want it.
create table public.mail_suppressions (
  id uuid not null,
  address text not null check (length(address) between 3 and 254 and address = lower(address)),
  reason text not null check (reason in ('bounced', 'unsubscribed')),
  mail uuid not null, -- the one that has bounced, or by whose link somebody has unsubscribed
  created_at timestamptz not null default now()
);

select app.tenant_table('public.mails', why => 'what was sent to people',
  unaudited => 'each row tells itself what became of it; what gave rise to it is audited');
select app.tenant_table('public.mail_suppressions', why => 'addresses that get no more mail',
  unaudited => 'the audit log would keep the addresses for ever; that one was removed is told there');
create unique index mail_suppressions_address_key on public.mail_suppressions (tenant_id, address, reason);
create index mails_contents on public.mails (tenant_id, ended_at) where text is not null;
create index mails_queued on public.mails (tenant_id, queued_at) where state = 'queued';

select app.system_access('public.mails', '{select,insert,update}', 'mails of the system, such as an invitation; operators look across tenants', across => true);
select app.system_access('public.mail_suppressions', '{select,insert,delete}', 'somebody unsubscribes who is no caller; operators look across tenants', across => true);

set local row_security = on; -- a function in SQL is checked as it is made, as if it ran

-- Writes mails of the current tenant; their jobs are enqueued beside.
create function app.add_mails(mails jsonb) returns void
language sql as $$
  insert into public.mails (id, template, recipient, recipient_name, locale, subject, text, html, promotional, confidential,
    message_id, state)
  select m.id, m.template, m.recipient, m.recipient_name, m.locale, m.subject, m.text, m.html, m.promotional, m.confidential,
    m.message_id, 'queued'
  from jsonb_to_recordset(mails) as m (id uuid, template text, recipient text, recipient_name text, locale text, subject text,
    text text, html text, promotional boolean, confidential boolean, message_id text)
$$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.add_mails(jsonb) from public;

do $$
begin
  execute format('grant execute on function app.add_mails(jsonb) to %I, %I', current_setting('app.runtime_role'),
    current_setting('app.system_role'));
end $$;
