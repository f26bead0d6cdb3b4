insert into public.erasures (id, subject, reason, ordered_by)
values ('00000000-0000-7000-8000-00000000ca53', '00000000-0000-7000-8000-00000000ca54', 'law', 'canary');
