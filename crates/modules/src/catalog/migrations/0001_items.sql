-- The catalogue: items with a stock keeping unit, unique within their tenant.

create table public.items (
  id uuid not null,
  sku text not null check (length(sku) between 1 and 64),
  name text not null check (length(name) between 1 and 200),
  description text check (length(description) <= 2000),
  quantity bigint not null default 0 check (quantity >= 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);

select app.tenant_table('public.items', audit_as => 'item');

alter table public.items add constraint items_sku_key unique (tenant_id, sku);
-- Both orders of a list: an index is read backwards as well as forwards, and sku has its key.
create index items_created_at_idx on public.items (tenant_id, created_at, id);
create index items_name_idx on public.items (tenant_id, name, id);
