insert into public.items (id, sku, name) values ('00000000-0000-7000-8000-00000000ca11', 'CANARY-1', 'Canary item');
