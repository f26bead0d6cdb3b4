insert into public.webhook_secrets (webhook_id, sealed) values ('00000000-0000-7000-8000-00000000ca31', '\x00');
