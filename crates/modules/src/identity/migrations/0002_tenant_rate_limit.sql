-- A tenant's own limit of requests, instead of RATE_LIMIT_MAX; null: the general one holds. An operator sets it, in a
-- transaction that has the tenant's context, and each instance takes it up within a minute.
alter table public.tenant_profiles
  add column rate_limit_max integer check (rate_limit_max between 1 and 1000000);
