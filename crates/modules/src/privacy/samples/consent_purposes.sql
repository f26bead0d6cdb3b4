insert into public.consent_purposes (id, name, revision, text, asks_anew)
values ('00000000-0000-7000-8000-00000000ca51', 'canary', 1, 'Canary', true);
