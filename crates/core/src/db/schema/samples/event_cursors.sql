insert into public.event_cursors (subscriber, number) values ('canary.on_sang', 1);
