insert into public.audit_tiles (log, level, index, root, hashes) values (1000000001, 0, 0, sha256('canary'), decode(repeat('00', 8192), 'hex'));
