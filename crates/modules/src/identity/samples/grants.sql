insert into public.grants (id, principal_id, built_in)
values ('00000000-0000-7000-8000-00000000cb07', '00000000-0000-7000-8000-00000000ca01', 'member');
