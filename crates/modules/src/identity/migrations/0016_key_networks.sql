-- Where a key is used from: texts of networks; none: anywhere.
-- Assumes 0009_api_keys.

alter table public.api_keys
  add column allowed_networks text[] not null default '{}' check (cardinality(allowed_networks) <= 200);
