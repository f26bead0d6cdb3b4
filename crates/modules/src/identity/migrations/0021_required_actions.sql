-- What is wanted of a person before its sessions open anything else: what an operator demands, which a session takes along from its
-- person when it begins, and the terms of a tenant.
-- Assumes 0005_sessions.

alter table auth.people add column demanded text[] not null default '{}' check (demanded <@ '{change-password,second-factor}');
alter table public.sessions add column demanded text[] not null default '{}' check (demanded <@ '{change-password,second-factor}');

create table public.terms_acceptances (
  user_id uuid not null,
  terms_version text not null check (length(terms_version) between 1 and 500),
  accepted_at timestamptz not null default now()
);
select app.tenant_table('public.terms_acceptances', key => '{user_id,terms_version}', audit_as => 'terms_acceptance', deletable => false,
  why => 'who has accepted the tenant''s terms, in which version and when');

do $$
begin
  execute format('revoke insert, update, delete on public.terms_acceptances from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select}' where relation = 'public.terms_acceptances';
end $$;

select app.system_access('public.terms_acceptances', '{select,insert}', 'nobody accepts terms but for himself');

-- A row of canary-one, for the isolation proof.
alter table public.terms_acceptances disable trigger audit;
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.terms_acceptances (user_id, terms_version) values ('00000000-0000-7000-8000-00000000ca01', 'canary');
set local app.tenant_id = '';
alter table public.terms_acceptances enable trigger audit;
update app.relations set canary = true where relation = 'public.terms_acceptances';
