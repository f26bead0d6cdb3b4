insert into public.audit_holds (id, reason, resource) values ('00000000-0000-7000-8000-00000000ca28', 'Canary', 'canary');
