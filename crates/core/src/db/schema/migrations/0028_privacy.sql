-- The register of personal data is declared in Rust, beside the tables (docs/decisions/0052-personal-data.md): the runner writes it
-- here after the migrations. What a migration has added by app.personal stays.

alter table app.personal_data
  add column found_by text not null default 'id' check (found_by in ('id', 'address', 'mention', 'nobody')),
  add column kind text, -- of the subject, such as `person`; null: anybody, or one that is found by nothing but its id
  add column erased_as text, -- what stands there after an erasure, in words of SQL over the row; null: nothing
  add column deleted boolean not null default false, -- the erasure deletes the row
  add column declared boolean not null default false; -- in Rust

-- Laws that want data of a subject to be kept: what is kept by legal obligation stays while one of them holds.
create table app.retention_duties (
  name text primary key,
  kind text not null,
  law text not null,
  holds text not null -- of the subject $1, in words of SQL
);
select app.shared_table('app.retention_duties', 'which laws want data of a subject to be kept');
select app.system_access('app.personal_data', '{select}', 'a start compares the register with what the modules declare');
select app.system_access('app.retention_duties', '{select}', 'an erasure says which law it has followed');

-- Makes the register what is declared in Rust: `personal` has its rows, `duties` the laws that want data to be kept. The audit
-- functions of tables of which other columns are personal now are written anew.
create function app.declare_privacy(personal jsonb, duties jsonb) returns void
language plpgsql as $$
declare
  row app.personal_data;
  duty app.retention_duties;
  missing text;
  before constant text[] := array(select relation || '.' || col from app.personal_data);
  changed text;
begin
  for row in select * from jsonb_populate_recordset(null::app.personal_data, personal) loop
    if not exists (select from app.relations r where r.relation = row.relation) then
      raise exception 'there is no registered table %', row.relation using hint = 'Name the table with its schema, as app.relations has it.';
    end if;
    select c into missing from unnest(array[row.col, row.subject]) c where c is not null and not exists (
      select from pg_catalog.pg_attribute a
      where a.attrelid = row.relation::regclass and a.attname = c and a.attnum > 0 and not a.attisdropped);
    if missing is not null then
      raise exception '% has no column %', row.relation, missing
        using hint = 'Name a column that holds something of a person, and one that says whose it is.';
    end if;
    if row.erased_as is not null then
      execute format('select %s from %s limit 0', row.erased_as, row.relation);
    end if;
  end loop;
  for duty in select * from jsonb_populate_recordset(null::app.retention_duties, duties) loop
    execute format('select (%s)::boolean', duty.holds) using '00000000-0000-0000-0000-000000000000'::uuid;
  end loop;
  delete from app.retention_duties;
  insert into app.retention_duties select * from jsonb_populate_recordset(null::app.retention_duties, duties);
  delete from app.personal_data p where p.declared;
  insert into app.personal_data select * from jsonb_populate_recordset(null::app.personal_data, personal)
    on conflict on constraint personal_data_pkey do update set category = excluded.category, purpose = excluded.purpose,
      legal_basis = excluded.legal_basis, kept = excluded.kept, subject = excluded.subject, found_by = excluded.found_by,
      kind = excluded.kind, erased_as = excluded.erased_as, deleted = excluded.deleted, declared = true;
  for changed in
    select distinct c.relation from (
      (select p.relation, p.col from app.personal_data p where p.relation || '.' || p.col <> all (before))
      union all
      (select r.relation, b from unnest(before) b join app.relations r on starts_with(b, r.relation || '.')
       where not exists (select from app.personal_data p where p.relation || '.' || p.col = b))) c
    where to_regclass(c.relation) is not null
  loop
    perform app.compile_audit(changed::regclass);
  end loop;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;
