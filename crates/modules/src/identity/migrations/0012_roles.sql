-- Roles of a tenant's own are written by those who may, on whose behalf the system does it, and a grant tells who gave it and when.
-- Of grants that are there already nobody knows: they count from now on.

alter table public.roles add column created_at timestamptz not null default now();
alter table public.grants
  add column granted_at timestamptz not null default now(),
  add column granted_by uuid; -- null: an operator, or nobody knows

select app.system_access('public.roles', '{select,insert,update,delete}', 'nobody makes a role that allows more than he may');
select app.system_access('public.role_permissions', '{select,insert,delete}', 'nobody makes a role that allows more than he may');

-- The system's login adds such rows now, and the isolation proof tries it; canary-one has a role that nobody holds.
update app.relations set canary = true where relation in ('public.roles', 'public.role_permissions');
