-- What tenants have: their settings and plan, the features that are on for them, and the plans that there are. Modules declare
-- settings and flags; a row here that no module declares any more counts for nothing, and stays.

create table public.tenant_settings (
  name text not null check (name ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  value jsonb not null check (length(value::text) <= 20000)
);
select app.tenant_table('public.tenant_settings', key => '{name}', audit_as => 'tenant_setting',
  why => 'what a tenant has set for itself');

create table public.tenant_flags (
  flag text not null check (flag ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  is_on boolean not null
);
select app.tenant_table('public.tenant_flags', key => '{flag}', audit_as => 'tenant_flag',
  why => 'features that are on or off for this tenant, whatever they are for others');

-- No tenant's, and seen by none: what others pay for is not its business.
create table public.plans (
  name text primary key check (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
  about text not null default '' check (length(about) <= 500),
  rate_limit_max integer check (rate_limit_max between 1 and 1000000), -- null: RATE_LIMIT_MAX
  connections integer check (connections between 1 and 1000), -- null: DATABASE_TENANT_MAX_CONNECTIONS
  changed_at timestamptz not null default now()
);
select app.private_table('public.plans', 'what tenants pay for: no tenant sees another''s terms');

create table public.tenant_plans (
  plan text not null -- no foreign key: a plan is never removed
);
select app.tenant_table('public.tenant_plans', key => '{}', audit_as => 'tenant_plan', why => 'what a tenant pays for');

-- The features that are on for a part of all tenants. The salt stays as long as the row does, so that who has a feature at 10 % has
-- it at 20 %.
create table public.flag_rollouts (
  flag text primary key check (flag ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  salt text not null check (length(salt) between 8 and 100),
  basis_points integer check (basis_points between 0 and 10000), -- of 10,000 tenants; null: no rollout
  changed_at timestamptz not null default now()
);
select app.private_table('public.flag_rollouts', 'features that are on for a part of all tenants');

-- A feature module must not be able to raise what its tenant has: requests read these, and the system writes them on behalf of those
-- who may.
do $$
declare
  name text;
begin
  foreach name in array array['public.tenant_settings', 'public.tenant_flags', 'public.tenant_plans'] loop
    execute format('revoke insert, update, delete on %s from %I', name, current_setting('app.runtime_role'));
  end loop;
  update app.relations set privileges = '{select}'
    where relation in ('public.tenant_settings', 'public.tenant_flags', 'public.tenant_plans');
end $$;

select app.system_access('public.tenant_settings', '{select,insert,update,delete}',
  'settings are changed on behalf of those who may, and read with what else a tenant has');
select app.system_access('public.tenant_flags', '{select,insert,update,delete}',
  'operators switch features for a tenant, and see how many have them', across => true);
select app.system_access('public.tenant_plans', '{select,insert,update,delete}',
  'operators give a tenant its plan, and see how many have it', across => true);
select app.system_access('public.plans', '{select,insert,update}', 'operators make and change plans');
select app.system_access('public.flag_rollouts', '{select,insert,update}', 'operators roll features out');

-- Tenants that had a limit of their own have a plan that says the same. The column of tenant_profiles stays while older instances
-- run, and counts for them only.
do $$
begin
  perform app.for_each_tenant('insert into public.plans (name, about, rate_limit_max)
    select ''requests-'' || rate_limit_max, ''Made of a limit of requests that a tenant had of its own.'', rate_limit_max
    from public.tenant_profiles where rate_limit_max is not null on conflict do nothing');
  perform app.for_each_tenant('insert into public.tenant_plans (plan)
    select ''requests-'' || rate_limit_max from public.tenant_profiles where rate_limit_max is not null');
end $$;

-- Rows of canary-one, for the isolation proof.
alter table public.tenant_settings disable trigger audit;
alter table public.tenant_flags disable trigger audit;
alter table public.tenant_plans disable trigger audit;
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.tenant_settings (name, value) values ('canary.first', '1');
insert into public.tenant_flags (flag, is_on) values ('canary.first', false);
insert into public.tenant_plans (plan) values ('canary');
set local app.tenant_id = '';
alter table public.tenant_settings enable trigger audit;
alter table public.tenant_flags enable trigger audit;
alter table public.tenant_plans enable trigger audit;
update app.relations set canary = true
  where relation in ('public.tenant_settings', 'public.tenant_flags', 'public.tenant_plans');
