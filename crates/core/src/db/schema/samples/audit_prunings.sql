insert into public.audit_prunings (log, first, last, note) values (1000000001, 0, 0, 'canary');
