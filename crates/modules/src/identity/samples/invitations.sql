insert into public.invitations (id, email, roles, secret_hash, expires_at)
values ('00000000-0000-7000-8000-00000000cb03', 'canary@erp.invalid', '{member}', sha256('canary'), now());
