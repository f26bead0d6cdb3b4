-- Reviews of access: who holds which role at a moment, what was decided of each, and what came of it.

create table public.access_reviews (
  id uuid not null,
  name text not null check (length(name) between 1 and 200),
  created_by uuid not null,
  created_at timestamptz not null default now(),
  due_at timestamptz not null,
  closed_at timestamptz
);
select app.tenant_table('public.access_reviews', audit_as => 'access_review', deletable => false,
  why => 'campaigns in which it is said who is to keep a role');

create table public.access_review_items (
  id uuid not null,
  review_id uuid not null,
  grant_id uuid not null, -- no foreign key: the grant may end, and the decision stays
  principal_id uuid not null,
  role text not null check (length(role) between 1 and 100), -- as it was called
  is_owner boolean not null,
  granted_at timestamptz not null,
  granted_by uuid,
  expires_at timestamptz,
  decision text check (decision in ('keep', 'revoke')),
  decided_by uuid,
  decided_at timestamptz,
  ended_at timestamptz, -- when the review has ended the grant
  constraint access_review_items_decided check ((decision is null) = (decided_by is null) and (decision is null) = (decided_at is null))
);
select app.tenant_table('public.access_review_items', audit_as => 'access_review_item', deletable => false,
  why => 'what a review is about: a role of a principal''s, and what was decided of it');
select app.tenant_reference('public.access_review_items', 'review_id', 'public.access_reviews');

do $$
declare
  name text;
begin
  foreach name in array array['public.access_reviews', 'public.access_review_items'] loop
    execute format('revoke insert, update, delete on %s from %I', name, current_setting('app.runtime_role'));
  end loop;
  update app.relations set privileges = '{select}' where relation in ('public.access_reviews', 'public.access_review_items');
end $$;

select app.system_access('public.access_reviews', '{select,insert,update}', 'a review ends grants, which no login of requests writes');
select app.system_access('public.access_review_items', '{select,insert,update}', 'a review ends grants, which no login of requests writes');

-- Rows of canary-one, for the isolation proof.
alter table public.access_reviews disable trigger audit;
alter table public.access_review_items disable trigger audit;
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.access_reviews (id, name, created_by, due_at)
values ('00000000-0000-7000-8000-00000000cb30', 'Canary', '00000000-0000-7000-8000-00000000ca01', now());
insert into public.access_review_items (id, review_id, grant_id, principal_id, role, is_owner, granted_at)
values ('00000000-0000-7000-8000-00000000cb31', '00000000-0000-7000-8000-00000000cb30', '00000000-0000-7000-8000-00000000cb07',
  '00000000-0000-7000-8000-00000000ca01', 'canary', false, now());
set local app.tenant_id = '';
alter table public.access_reviews enable trigger audit;
alter table public.access_review_items enable trigger audit;
update app.relations set canary = true where relation in ('public.access_reviews', 'public.access_review_items');
