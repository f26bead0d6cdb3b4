insert into public.tenant_profiles (name) values ('Canary');
