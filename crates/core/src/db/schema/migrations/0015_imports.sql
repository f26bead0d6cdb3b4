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

-- Checks at once what would be checked at COMMIT: a dry run ends without one.
create function app.check_now() returns void
language plpgsql as $$
begin
  set constraints all immediate;
end $$;

revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.check_now() to %I', current_setting('app.runtime_role'));
end $$;
