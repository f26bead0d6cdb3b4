-- How much a tenant may ask of one process; null: as much as any.
alter table public.plans
  add column requests_at_once integer check (requests_at_once between 1 and 100000),
  add column database_ms integer check (database_ms between 1 and 60000000); -- in a minute, all its connections together
