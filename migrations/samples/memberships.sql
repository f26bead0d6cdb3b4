insert into public.memberships (user_id, role) values ('00000000-0000-7000-8000-00000000ca01', 'read-only');
