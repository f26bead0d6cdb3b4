insert into public.audit_entries (log, index, leaf) values (1000000001, 0, sha256('canary'));
