-- The seeds of operators' second factors are encrypted with the platform's key.
select app.encrypted_column('auth.operator_factors', 'secret_sealed');
