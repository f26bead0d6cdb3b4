-- The seeds of second factors are encrypted with the platform's key.
select app.encrypted_column('auth.factors', 'secret_sealed');
