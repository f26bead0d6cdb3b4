insert into public.unreferenced_objects (id, bytes) values ('00000000-0000-7000-8000-00000000ca31', 4);
