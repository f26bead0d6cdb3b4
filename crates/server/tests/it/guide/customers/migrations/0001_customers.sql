-- Customers: who a tenant sells to. The name is unique within the tenant.

create table public.customers (
  id uuid not null,
  name text not null check (length(name) between 1 and 200),
  email text check (length(email) <= 254),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);

select app.tenant_table('public.customers', audit_as => 'customer', masked => '{email}');

alter table public.customers add constraint customers_name_key unique (tenant_id, name);
