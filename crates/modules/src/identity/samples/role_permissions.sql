insert into public.role_permissions (role_id, permission) values ('00000000-0000-7000-8000-00000000cb24', 'canary.cage.close');
