insert into public.vehicles (id, plate) values ('00000000-0000-7000-8000-00000000ca21', 'CANARY');
