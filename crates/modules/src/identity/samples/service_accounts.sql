insert into public.service_accounts (id, name) values ('00000000-0000-7000-8000-00000000cb22', 'Canary');
