insert into public.audit_log (seq, at, actor, action, resource, resource_id)
values (1, '2000-01-01T00:00:00Z', 'system:proof', 'canary.sample', 'canary', 'one');
