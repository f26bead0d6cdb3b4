insert into public.tenant_flags (flag, is_on) values ('canary.second', true);
