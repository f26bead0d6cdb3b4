-- Sign-in is work of the system: it looks for the account of an address within the tenant that was named, before anybody is
-- known.
select app.system_access('public.memberships', '{select}', 'sign-in finds out who belongs to the tenant that is named');
select app.system_access('public.users', '{select}', 'sign-in finds the account of an address, and its password''s hash');
