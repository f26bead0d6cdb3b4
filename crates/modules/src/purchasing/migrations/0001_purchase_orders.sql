-- Purchase orders with their lines: what a tenant has ordered, from whom, and what has become of it.

create table public.purchase_orders (
  id uuid not null,
  number text not null,
  status text not null,
  supplier_id uuid not null,
  total_minor bigint not null check (total_minor >= 0),
  total_currency text not null,
  revision integer not null default 1,
  created_by uuid not null,
  revised_by uuid,
  approved_by uuid,
  received_by uuid,
  cancelled_by uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1
);

-- An order is cancelled, never deleted: its number would be missing.
select app.tenant_table('public.purchase_orders', audit_as => 'purchase_order', deletable => false);
select app.states('public.purchase_orders', '{draft,approved,received,cancelled}',
  '{draft>approved,draft>cancelled,approved>received,approved>cancelled}',
  separate => '{{approved_by,created_by},{approved_by,revised_by}}');

alter table public.purchase_orders add constraint purchase_orders_number_key unique (tenant_id, number);
select app.tenant_reference('public.purchase_orders', 'supplier_id', 'public.suppliers');
-- The orders of the list, with and without a state that it is narrowed to; the key serves that by number.
create index purchase_orders_created_at_idx on public.purchase_orders (tenant_id, created_at, id);
create index purchase_orders_status_idx on public.purchase_orders (tenant_id, status, created_at, id);

create table public.purchase_order_lines (
  order_id uuid not null,
  position bigint not null check (position between 1 and 200),
  item_id uuid not null,
  quantity bigint not null check (quantity between 1 and 1000000000),
  unit_price_minor bigint not null check (unit_price_minor >= 0),
  unit_price_currency text not null
);

select app.tenant_table('public.purchase_order_lines', key => '{order_id,position}', audit_as => 'purchase_order_line');
select app.tenant_reference('public.purchase_order_lines', 'order_id', 'public.purchase_orders');
select app.tenant_reference('public.purchase_order_lines', 'item_id', 'public.items');
