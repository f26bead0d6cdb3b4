-- Items whose quantity every client can read, and whose sku nothing looks like.

-- JavaScript reads integers up to 2^53 - 1 exactly, and others silently as their neighbours.
select app.for_each_tenant('update public.items set quantity = 9007199254740991, version = version + 1, updated_at = now()
  where quantity > 9007199254740991');
alter table public.items
  add constraint items_quantity_exact check (quantity <= 9007199254740991),
  add constraint items_version_exact check (version <= 9007199254740991);

select app.identifier('public.items', 'sku');
