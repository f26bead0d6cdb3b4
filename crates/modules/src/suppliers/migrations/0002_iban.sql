-- Where a supplier is paid: a ciphertext, and beside it the blind index by which an account is found.

alter table public.suppliers add column iban text, add column iban_index text;

select app.encrypted_column('public.suppliers', 'iban', indexed => true);
