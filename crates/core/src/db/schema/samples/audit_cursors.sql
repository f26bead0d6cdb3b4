insert into public.audit_cursors (reader, seq, at) values ('canary', 0, '2000-01-01');
