insert into public.job_running (id, kind, priority, attempt, attempts, system, origin, args, enqueued_at, worker, began_at)
values ('00000000-0000-7000-8000-00000000ca20', 'canary.sing', 1, 0, 1, 'proof', 'canary', '{}', '2000-01-01', '00000000-0000-7000-8000-00000000ca21', '2000-01-01');
