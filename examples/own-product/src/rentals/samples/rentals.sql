insert into public.rentals (id, vehicle_id, customer)
values ('00000000-0000-7000-8000-00000000ca22', '00000000-0000-7000-8000-00000000ca21', 'Canary');
