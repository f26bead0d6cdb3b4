-- Rentals of vehicles: a foreign key to another module's table pairs the tenants.

create table public.rentals (
  id uuid not null,
  vehicle_id uuid not null,
  customer text not null check (length(customer) between 1 and 200),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);

select app.tenant_table('public.rentals', audit_as => 'rental');

-- Released before app.tenant_reference, which does this today. The table is new: there are no rows to check.
set local row_security = on;
alter table public.rentals add constraint rentals_vehicle_fkey
  foreign key (tenant_id, vehicle_id) references public.vehicles (tenant_id, id);
create index rentals_created_at_idx on public.rentals (tenant_id, created_at, id);
