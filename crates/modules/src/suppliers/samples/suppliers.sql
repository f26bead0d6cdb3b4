insert into public.suppliers (id, name) values ('00000000-0000-7000-8000-00000000ca12', 'Canary supplier');
