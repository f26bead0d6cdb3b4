insert into public.memberships (user_id, email) values ('00000000-0000-7000-8000-00000000ca02', 'second-canary@erp.invalid');
