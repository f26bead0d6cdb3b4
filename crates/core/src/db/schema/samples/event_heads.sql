insert into public.event_heads (number) values (1);
