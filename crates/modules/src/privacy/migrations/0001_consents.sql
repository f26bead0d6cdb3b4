-- What people are asked to agree to, in versions, and what they have said: rows are added and never changed, so that each is evidence.

create table public.consent_purposes (
  id uuid not null,
  name text not null check (name ~ '^[a-z][a-z0-9_-]{0,99}$'),
  revision bigint not null check (revision > 0),
  text text not null check (length(text) between 1 and 4000), -- as people have read it
  asks_anew boolean not null, -- whether who has agreed to an earlier one is to be asked again
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);
select app.tenant_table('public.consent_purposes', append_only => true, audit_as => 'consent_purpose',
  why => 'what people are asked to agree to');
alter table public.consent_purposes add constraint consent_purposes_name_key unique (tenant_id, name, revision);
create index consent_purposes_created_at_idx on public.consent_purposes (tenant_id, created_at, id);

create table public.consents (
  id uuid not null,
  subject text not null check (length(subject) between 1 and 200), -- the id of somebody, here or in another system
  purpose text not null,
  revision bigint not null,
  given boolean not null, -- false: it is withdrawn
  evidence text not null check (length(evidence) between 1 and 1000), -- how that is known
  recorded_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);
select app.tenant_table('public.consents', append_only => true, audit_as => 'consent', why => 'who has agreed to what, and withdrawn it');
create index consents_latest on public.consents (tenant_id, subject, purpose, created_at, id);
create index consents_created_at_idx on public.consents (tenant_id, created_at, id);

set local row_security = on; -- adding a key looks at all rows, of which there are none
alter table public.consents add constraint consents_purpose_fkey
  foreign key (tenant_id, purpose, revision) references public.consent_purposes (tenant_id, name, revision);
create index consents_purpose_idx on public.consents (tenant_id, purpose, revision);
