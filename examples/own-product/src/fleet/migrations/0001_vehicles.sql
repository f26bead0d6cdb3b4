-- Vehicles, known by their plate.

create table public.vehicles (
  id uuid not null,
  plate text not null check (length(plate) between 1 and 20),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);

select app.tenant_table('public.vehicles', audit_as => 'vehicle');

alter table public.vehicles add constraint vehicles_plate_key unique (tenant_id, plate);
