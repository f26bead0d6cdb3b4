insert into public.mail_suppressions (id, address, reason, mail)
values ('00000000-0000-7000-8000-00000000ca31', 'canary@erp.invalid', 'bounced', '00000000-0000-7000-8000-00000000ca30');
