insert into public.job_cancels (id) values ('00000000-0000-7000-8000-00000000ca20');
