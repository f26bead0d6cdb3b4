-- The secrets of endpoints are encrypted with the tenant's key. While one is being replaced, the former one stands in another column, and
-- is known by the name that it was encrypted under.
select app.encrypted_column('public.webhook_secrets', 'sealed');
select app.encrypted_column('public.webhook_secrets', 'previous', known_as => 'sealed');
