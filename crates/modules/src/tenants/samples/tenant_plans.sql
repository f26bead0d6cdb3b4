insert into public.tenant_plans (plan) values ('second-canary') on conflict (tenant_id) do update set plan = excluded.plan;
