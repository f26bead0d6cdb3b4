insert into public.audit_logs (log, origin, first_seq, is_open) values (1000000001, 'canary/second', 1, false);
