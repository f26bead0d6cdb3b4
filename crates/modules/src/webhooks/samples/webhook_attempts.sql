insert into public.webhook_attempts (delivery_id, attempt, began_at, milliseconds, outcome)
values ('00000000-0000-7000-8000-00000000ca31', 1, '2000-01-01', 1, 'success');
