insert into public.events (id, name, aggregate, aggregate_id, payload, origin)
values ('00000000-0000-7000-8000-00000000ca21', 'canary.sang', 'canary', '00000000-0000-7000-8000-00000000ca21', '{}', 'canary');
