insert into public.api_keys (id, principal_id, name, scopes, hash, created_by)
values ('00000000-0000-7000-8000-00000000cb23', '00000000-0000-7000-8000-00000000cb20', 'Canary', '{canary.cage.open}',
  sha256('canary'), '00000000-0000-7000-8000-00000000ca01');
