-- Roles and grants as data. The three roles that every tenant has are declared by the product, so that the permissions of
-- a new module come to them by themselves; a tenant's own roles are rows. What a principal may do is what its grants say
-- now, and not what a token said when it was signed.

set local row_security = on; -- a foreign key is checked as it is made, and would not see any tenant's rows otherwise

create table public.roles (
  id uuid not null,
  name text not null check (length(name) between 1 and 100 and name not in ('owner', 'member', 'read-only')),
  description text not null default '' check (length(description) <= 500)
);
select app.tenant_table('public.roles', audit_as => 'role', why => 'roles of a tenant''s own');
create unique index roles_name_key on public.roles (tenant_id, lower(name));

create table public.role_permissions (
  role_id uuid not null,
  permission text not null check (permission ~ '^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){2}$')
);
select app.tenant_table('public.role_permissions', key => '{role_id,permission}', audit_as => 'role_permission',
  why => 'what a tenant''s own roles allow, by the names that modules declare');
alter table public.role_permissions add constraint role_permissions_role_id_fkey
  foreign key (tenant_id, role_id) references public.roles (tenant_id, id) on delete cascade;

create table public.grants (
  id uuid not null,
  principal_id uuid not null, -- a person's id, later a service account's or a key's
  built_in text check (built_in in ('owner', 'member', 'read-only')),
  role_id uuid,
  expires_at timestamptz,
  constraint grants_one_role check ((built_in is null) <> (role_id is null))
);
select app.tenant_table('public.grants', audit_as => 'grant', why => 'who holds which role');
alter table public.grants add constraint grants_role_id_fkey
  foreign key (tenant_id, role_id) references public.roles (tenant_id, id) on delete cascade;
create unique index grants_built_in_key on public.grants (tenant_id, principal_id, built_in) where built_in is not null;
create unique index grants_role_id_key on public.grants (tenant_id, principal_id, role_id) where role_id is not null;
create index grants_role_id_idx on public.grants (tenant_id, role_id);

-- Who may write these may give himself every right in the tenant: the runtime role reads them only, until the access
-- module brings a way that checks the giver's own rights.
do $$
declare
  name text;
begin
  foreach name in array array['public.roles', 'public.role_permissions', 'public.grants'] loop
    execute format('revoke insert, update, delete on %s from %I', name, current_setting('app.runtime_role'));
  end loop;
  update app.relations set privileges = '{select}'
    where relation in ('public.roles', 'public.role_permissions', 'public.grants');
end $$;

-- Memberships had one role each. Their grants say the same, tenant by tenant.
alter table public.grants disable trigger audit; -- nothing has changed for anybody
select app.for_each_tenant('insert into public.grants (id, principal_id, built_in)
  select gen_random_uuid(), user_id, role from public.memberships');
alter table public.grants enable trigger audit;

-- Rows of canary-one, for the isolation proof: a role that nobody holds.
alter table public.roles disable trigger audit;
alter table public.role_permissions disable trigger audit;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.roles (id, name) values ('00000000-0000-7000-8000-00000000cb01', 'Canary');
insert into public.role_permissions (role_id, permission)
  values ('00000000-0000-7000-8000-00000000cb01', 'canary.cage.open');
set local app.tenant_id = '';
alter table public.roles enable trigger audit;
alter table public.role_permissions enable trigger audit;

alter table public.memberships drop column role;
set local row_security = off;
