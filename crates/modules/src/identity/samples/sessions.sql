insert into public.sessions (id, principal_id, secret_hash, key_id, auth_time, amr, idle_at, expires_at)
values ('00000000-0000-7000-8000-00000000cb02', '00000000-0000-7000-8000-00000000ca01', sha256('canary'), 'canary', now(), '{pwd}', now(), now());
