-- Suppliers: who a tenant buys from. The name is unique within the tenant.

create table public.suppliers (
  id uuid not null,
  name text not null check (length(name) between 1 and 200),
  email text check (length(email) <= 254),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);

select app.tenant_table('public.suppliers', audit_as => 'supplier', masked => '{email}');

alter table public.suppliers add constraint suppliers_name_key unique (tenant_id, name);
-- The other order of the list: the key serves the one by name.
create index suppliers_created_at_idx on public.suppliers (tenant_id, created_at, id);
