insert into public.tenant_settings (name, value) values ('canary.second', '2');
