insert into public.roles (id, name) values ('00000000-0000-7000-8000-00000000cb24', 'Second canary');
