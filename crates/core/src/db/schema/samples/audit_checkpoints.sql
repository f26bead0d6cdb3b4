insert into public.audit_checkpoints (log, size, note) values (1000000001, 1, 'canary');
