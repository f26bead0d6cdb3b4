insert into public.purchase_order_lines (order_id, position, item_id, quantity) values ('00000000-0000-7000-8000-00000000ca14', 1, '00000000-0000-7000-8000-00000000ca11', 1);
