insert into public.webhook_deliveries (id, webhook_id, number, name, aggregate_id)
values ('00000000-0000-7000-8000-00000000ca31', '00000000-0000-7000-8000-00000000ca31', 1, 'canary.sang', '00000000-0000-7000-8000-00000000ca31');
