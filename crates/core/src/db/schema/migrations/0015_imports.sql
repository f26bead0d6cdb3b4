-- Rows of files that imports have rejected, until the file of them is written.

create table public.import_rejections (
  job uuid not null,
  number bigint not null,
  line text not null,
  errors jsonb not null,
  added_at timestamptz not null default now()
);

select app.tenant_table('public.import_rejections', key => '{job,number}', why => 'rows that imports have rejected',
  unaudited => 'a row that was not written has changed nothing');
