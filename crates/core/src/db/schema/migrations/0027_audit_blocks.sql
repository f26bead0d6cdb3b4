-- What a search of the audit log looks into first (docs/decisions/0054-search-of-the-audit-log.md): for each 256 rows that are sealed, a
-- Bloom filter of who did what to what. The sealer writes it: who changes something pays nothing for it.

create table public.audit_blocks (
  block bigint not null check (block >= 0), -- rows 256 * block + 1 to 256 * block + 256 of the tenant
  first_at timestamptz not null,
  last_at timestamptz not null,
  filter bytea not null check (octet_length(filter) = 1024)
);
alter table public.audit_blocks alter column filter set storage plain; -- it does not compress, and stays beside its row
select app.tenant_table('public.audit_blocks', key => '{block}', append_only => true,
  why => 'which rows of a tenant''s audit log to look through for somebody or something', unaudited => 'made of the audit log');

alter table public.audit_logs add column searchable bigint not null default 0; -- the last row that is in a block; of the open log

do $$
begin
  execute format('revoke insert, update, delete on public.audit_blocks from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select}', canary = true where relation = 'public.audit_blocks';
end $$;

select app.system_access('public.audit_blocks', '{select,insert}', 'sealed rows are made searchable');

-- A row of canary-one, for the isolation proof.
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.audit_blocks (block, first_at, last_at, filter) values (1000000000, '2000-01-01', '2000-01-01', decode(repeat('00', 1024), 'hex'));
set local app.tenant_id = '';
set local row_security = off;
