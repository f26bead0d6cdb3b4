insert into public.webhook_receipts (source, id) values ('canary', 'msg_canary');
