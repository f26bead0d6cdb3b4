-- Quotas of plans, by the names of meters: what a plan does not name is used as much as a tenant likes.
alter table public.plans add column quotas jsonb not null default '{}'
  check (jsonb_typeof(quotas) = 'object' and length(quotas::text) <= 10000);
