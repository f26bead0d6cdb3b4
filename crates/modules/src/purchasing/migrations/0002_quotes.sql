-- What a supplier has offered for an order: a file that goes with it.

alter table public.purchase_orders add column quote_id uuid;
select app.owns_file('public.purchase_orders', 'quote_id');
