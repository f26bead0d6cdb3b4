insert into public.audit_blocks (block, first_at, last_at, filter) values (1000000001, '2000-01-01', '2000-01-01', decode(repeat('00', 1024), 'hex'));
