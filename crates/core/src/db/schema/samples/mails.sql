insert into public.mails (id, template, recipient, locale, subject, text, promotional, confidential, message_id, state)
values ('00000000-0000-7000-8000-00000000ca30', 'canary.song', 'canary@erp.invalid', 'en', 'Song', 'La', false, false, 'canary@erp.invalid', 'queued');
