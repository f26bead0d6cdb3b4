insert into public.document_numbers (series, year) values ('CANARY', 2000);
