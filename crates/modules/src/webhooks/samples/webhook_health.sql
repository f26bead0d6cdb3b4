insert into public.webhook_health (webhook_id) values ('00000000-0000-7000-8000-00000000ca31');
