insert into public.consents (id, subject, purpose, revision, given, evidence)
values ('00000000-0000-7000-8000-00000000ca52', 'canary', 'canary', 1, true, 'Canary');
