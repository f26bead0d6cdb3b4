insert into public.idempotency_keys (principal, route, key, fingerprint, claim, claimed_until, expires_at)
values ('system:proof', 'POST /canary', 'canary', '\x00', '00000000-0000-7000-8000-00000000ca13', '2000-01-01', '2000-01-01');
