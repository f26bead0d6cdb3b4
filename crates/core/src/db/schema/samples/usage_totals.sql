insert into public.usage_totals (meter, used, most, day) values ('canary.second', 7, 9, '2026-11-30');
