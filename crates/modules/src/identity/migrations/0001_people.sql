-- People and their memberships. People are global; what ties one to a tenant is a membership, and a tenant's tables
-- reference memberships (tenant_id, user_id), never users. The runtime role sees the users of the current tenant's
-- memberships and writes none of them.

create table public.users (
  id uuid primary key,
  -- The one UNIQUE that spans tenants. The runtime role cannot write users, so its conflict tells nobody anything.
  email text not null constraint users_email_key unique
    check (email = lower(email) and email is nfc normalized and length(email) between 3 and 254),
  name text not null default '' check (length(name) <= 200),
  password_hash text, -- null: cannot sign in with a password
  created_at timestamptz not null default now(),
  disabled_at timestamptz
);

create table public.tenant_profiles (
  name text not null check (length(name) between 1 and 200)
);

select app.tenant_table('public.tenant_profiles', key => '{}', audit_as => 'tenant',
  why => 'what a tenant calls itself; apart from the directory, which everybody can read');

create table public.memberships (
  user_id uuid not null references public.users (id),
  role text not null check (role in ('owner', 'member', 'read-only')),
  created_at timestamptz not null default now(),
  ended_at timestamptz
);

select app.tenant_table('public.memberships', key => '{user_id}', audit_as => 'membership', deletable => false,
  why => 'who belongs to a tenant; a membership ends, it is not deleted');

-- Who may insert a membership can make any person's row of users visible to the tenant: the foreign key's check goes
-- past row level security. So the runtime role reads them only; inviting people will bring a way of its own.
do $$
begin
  execute format('revoke insert, update on public.memberships from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select}' where relation = 'public.memberships';
end $$;

-- For the foreign key and for "which tenants does this person belong to", asked by the owner.
create index memberships_user_id_idx on public.memberships (user_id);

select app.member_table('public.users', 'people: seen by the tenants they belong to');

-- A member of canary-one, for the isolation proof. It can never sign in.
insert into public.users (id, email, name, disabled_at) values
  ('00000000-0000-7000-8000-00000000ca01', 'canary@erp.invalid', 'Canary', now());

set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
alter table public.memberships disable trigger audit; -- nothing happened that an auditor should read of
insert into public.memberships (user_id, role) values ('00000000-0000-7000-8000-00000000ca01', 'read-only');
alter table public.memberships enable trigger audit;
set local app.tenant_id = '';
