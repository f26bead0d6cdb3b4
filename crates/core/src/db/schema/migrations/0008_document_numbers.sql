-- Numbers of documents without gaps, counted per tenant, series and year: PO-2026-00001, PO-2026-00002.
--
-- A number is taken in the transaction that creates the document. The counter's row stays locked until that transaction
-- ends, and a rollback gives the number back. So two transactions of one tenant that count in the same series and year
-- wait for each other; others do not. Take numbers after all other locks: only the tenant's audit head, which the
-- COMMIT locks, comes later. Whoever counts in two series in one transaction takes them in the order of their names.

create table public.document_numbers (
  series text not null check (series ~ '^[A-Z][A-Z0-9]{0,15}$'),
  year int not null check (year between 1 and 9998),
  last bigint not null default 1
);

select app.tenant_table('public.document_numbers', key => '{series,year}', deletable => false,
  why => 'the last number of each series and year', unaudited => 'a counter; the document that takes the number is audited');

-- A counter begins at 1 and goes forward one by one; the runtime role can do nothing else to it.
create function app.document_numbers_only_count() returns trigger
language plpgsql as $$
begin
  raise exception 'document_numbers: a counter begins at 1, goes forward by 1, and keeps its series and year'
    using errcode = 'insufficient_privilege', hint = 'Take numbers with app.next_number or app.document_number.';
end $$;

create trigger begins_at_one before insert on public.document_numbers
  for each row when (new.last is distinct from 1) execute function app.document_numbers_only_count();
create trigger only_counts before update of series, year, last on public.document_numbers
  for each row when (new.last is distinct from old.last + 1 or new.series is distinct from old.series
    or new.year is distinct from old.year) execute function app.document_numbers_only_count();

-- Takes the current tenant's next number of a series and year.
--
--   year  of the tenant's time zone, by the application's clock (`call.year()`), never by the database's
create function app.next_number(series text, year int) returns bigint
language plpgsql as $$
declare
  taken bigint;
begin
  insert into public.document_numbers as n (series, year) values (next_number.series, next_number.year)
  on conflict on constraint document_numbers_pkey do update set last = n.last + 1
  returning n.last into taken;
  return taken;
end $$;

-- The same, written out: `app.document_number('PO', 2026)` is PO-2026-00001.
--
--   digits  how many digits the number has at least; a greater number takes more
create function app.document_number(series text, year int, digits int default 5) returns text
language sql as $$
  select format('%s-%s-%s', $1, to_char($2, 'FM0000'), lpad(n.number, greatest($3, length(n.number)), '0'))
  from (select app.next_number($1, $2)::text as number) n
$$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.document_numbers_only_count(), app.next_number(text, int),
  app.document_number(text, int, int) from public;

do $$
begin
  execute format('grant execute on function app.next_number(text, int), app.document_number(text, int, int) to %I',
    current_setting('app.runtime_role'));
end $$;
