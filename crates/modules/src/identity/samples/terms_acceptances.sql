insert into public.terms_acceptances (user_id, terms_version) values ('00000000-0000-7000-8000-00000000ca02', 'canary');
