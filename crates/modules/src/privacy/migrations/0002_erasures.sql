-- Orders to forget somebody, and what was done. Those of people are the platform's; a tenant orders those of its own subjects.

create table public.erasures (
  id uuid not null,
  subject uuid not null,
  reason text not null check (reason in ('no-longer-needed', 'consent-withdrawn', 'objection', 'unlawful', 'law')), -- GDPR, article 17 (1)
  ordered_by text not null,
  addresses text[], -- of the subject, while it is under way
  report jsonb,
  receipt text, -- signed
  done_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);
select app.tenant_table('public.erasures', deletable => false, audit_as => 'erasure', masked => '{addresses}',
  why => 'orders to forget somebody, and their receipts');
select app.system_access('public.erasures', '{select,insert,update}', 'an erasure is done by the system, and noted; operators order those of people');
create index erasures_created_at_idx on public.erasures (tenant_id, created_at, id);
