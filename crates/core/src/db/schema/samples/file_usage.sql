insert into public.file_usage (bytes) values (4);
