-- Items are counted: a plan can have a quota for them.
select app.metered('public.items', 'catalog.items');
