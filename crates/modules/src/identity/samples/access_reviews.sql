insert into public.access_reviews (id, name, created_by, due_at)
values ('00000000-0000-7000-8000-00000000cb32', 'Second canary', '00000000-0000-7000-8000-00000000ca01', now());
