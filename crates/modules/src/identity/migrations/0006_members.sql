-- Members: invited, given roles, paused and removed by those who may, on whose behalf the system writes.

alter table public.grants drop constraint grants_built_in_check,
  add constraint grants_built_in_check check (built_in in ('owner', 'administrator', 'member', 'auditor', 'read-only'));
alter table public.roles drop constraint roles_name_check,
  add constraint roles_name_check check (length(name) between 1 and 100
    and lower(name) not in ('owner', 'administrator', 'member', 'auditor', 'read-only'));

create table public.invitations (
  id uuid not null,
  email text not null check (length(email) between 3 and 254),
  roles text[] not null check (cardinality(roles) between 1 and 20),
  secret_hash bytea not null check (octet_length(secret_hash) = 32),
  invited_by uuid, -- null: an operator
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  ended_at timestamptz, -- when it was accepted or taken back
  accepted_by uuid
);
select app.tenant_table('public.invitations', audit_as => 'invitation', masked => '{email,secret_hash}',
  why => 'who was asked to join, and has not answered or has');
create unique index invitations_secret on public.invitations (tenant_id, secret_hash);
create index invitations_open on public.invitations (tenant_id, created_at) where ended_at is null;

do $$
begin
  execute format('revoke insert, update, delete on public.invitations from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select}' where relation = 'public.invitations';
end $$;

select app.system_access('public.invitations', '{select,insert,update}',
  'who accepts an invitation is no caller yet; nobody gives more than he has');
select app.system_access('public.memberships', '{select,insert,update}',
  'sign-in finds out who belongs to the tenant that is named; members are made, paused and removed');
select app.system_access('public.grants', '{select,insert,update,delete}', 'nobody gives more than he has');
select app.system_access('public.roles', '{select}', 'the names that a tenant gives its roles');
select app.system_access('public.role_permissions', '{select}', 'nobody gives more than he has');
select app.system_access('public.tenant_profiles', '{select,insert,update}',
  'a new tenant gets its name, and invitations say it; the row is held while owners are made and unmade');

-- A row of canary-one, for the isolation proof; memberships and grants have some.
alter table public.invitations disable trigger audit;
set local row_security = on; -- a foreign key is checked as it is made, and would not see any tenant's rows otherwise
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.invitations (id, email, roles, secret_hash, expires_at)
values ('00000000-0000-7000-8000-00000000cb05', 'canary@erp.invalid', '{member}', sha256('first canary'), now());
set local app.tenant_id = '';
alter table public.invitations enable trigger audit;
update app.relations set canary = true where relation in ('public.invitations', 'public.grants', 'public.memberships');
