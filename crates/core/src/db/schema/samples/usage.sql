insert into public.usage (day, meter, used) values ('2026-11-30', 'canary.second', 7);
