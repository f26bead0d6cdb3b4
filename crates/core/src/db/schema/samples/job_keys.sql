insert into public.job_keys (kind, key, job) values ('canary.sing', 'once', '00000000-0000-7000-8000-00000000ca20');
