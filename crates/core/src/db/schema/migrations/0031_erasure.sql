-- What is known of a subject, and how it is forgotten, by the register of personal data (docs/decisions/0053-erasure.md). A subject is
-- known by its id, which is unlike any other, and by its mail addresses, which the register finds first.
--
-- `of_tenants` says whether the tables of the tenant that is set are meant, or those of the platform. All of it is the system's alone.

-- Whether a text in lower case holds this mail address, and not one that only ends or begins like it: ann@example.com is not in
-- joann@example.com.
create function app.mentions(text text, address text) returns boolean
language sql immutable strict as $$
  select position(address in text) > 0
    and text ~ ('(?<![[:alnum:]._%+-])' || regexp_replace(address, '([^[:alnum:]@_])', '\\\1', 'g') || '(?![[:alnum:]_-])(?![.][[:alnum:]])')
$$;

-- The declared tables with the condition that a row `t` is the subject's: $1 is its id, $2 its addresses in lower case.
create function app.subject_tables(of_tenants boolean, out relation text, out condition text, out cols text[], out place int)
returns setof record
language sql stable as $$
  select p.relation, case p.found_by
      when 'id' then format('t.%I::text = $1', coalesce(p.subject, 'id'))
      when 'address' then format('lower(t.%I) = any ($2)', p.subject)
      else format('exists (select from unnest($2) a where %s)', string_agg(format('app.mentions(lower(%s), a)',
        format(case when c.atttypid = 'bytea'::regtype then 'encode(t.%I, ''escape'')' else 't.%I::text' end, p.col)), ' or ')) end,
    array_agg(p.col order by p.col), r.ordinal
  from app.personal_data p join app.relations r on r.relation = p.relation
  join pg_catalog.pg_attribute c on c.attrelid = p.relation::regclass and c.attname = p.col
  where (r.kind = 'tenant') = of_tenants and p.found_by <> 'nobody'
    and (p.found_by <> 'id' or exists (select from pg_catalog.pg_attribute s
      where s.attrelid = p.relation::regclass and s.attname = coalesce(p.subject, 'id')))
  group by p.relation, p.found_by, p.subject, r.ordinal
$$;

-- The mail addresses that are known of a subject, in lower case.
create function app.subject_addresses(subject text, of_tenants boolean) returns text[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  contact record;
  here text[];
  found_here text[] := '{}';
begin
  for contact in select p.relation, p.col, t.condition from app.subject_tables(of_tenants) t
    join app.personal_data p on p.relation = t.relation and p.col = any (t.cols) and p.category = 'contact' and p.found_by = 'id'
  loop
    execute format('select array_agg(distinct lower(t.%I)) from %s t where %s and t.%1$I like ''%%_@_%%''
      and t.%1$I not like ''%%@erp.invalid''', contact.col, contact.relation, contact.condition) into here using subject, null::text[];
    found_here := found_here || coalesce(here, '{}');
  end loop;
  return array(select distinct a from unnest(found_here) a order by a);
end $$;

-- Every row that holds something of a subject, with what it holds: without what it signs in with, and without copies in bytes. `sealed` names the encrypted columns
-- and what each is known as, and `key` is the id that they belong to.
create function app.subject_data(subject text, addresses text[], of_tenants boolean, out relation text, out data text, out sealed text,
  out key uuid) returns setof record
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  t record;
  shown text[];
  encrypted jsonb;
  keyed text;
begin
  for t in select * from app.subject_tables(of_tenants) x order by x.place loop
    shown := array(select p.col from app.personal_data p
      join pg_catalog.pg_attribute a on a.attrelid = p.relation::regclass and a.attname = p.col and a.atttypid <> 'bytea'::regtype
      where p.relation = t.relation and p.col = any (t.cols) and p.category <> 'credential');
    continue when shown = '{}';
    select jsonb_object_agg(e.col, e.known_as), min(e.key) into encrypted, keyed from app.encrypted_columns e
      where e.relation = t.relation and e.col = any (shown);
    return query execute format('select %L::text, (select jsonb_object_agg(e.key, e.value) from jsonb_each(to_jsonb(t)) e
        where e.key = any ($3 || ''{id,created_at}''))::text, $4::text, %s from %s t where %s', t.relation,
      case when keyed is null then 'null::uuid' else format('t.%I', keyed) end, t.relation, t.condition)
      using subject, addresses, shown, encrypted;
  end loop;
end $$;

-- The laws that want something of the subject to be kept, as far as the rows of the tenant that is set say so.
create function app.subject_duties(subject text) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  duty app.retention_duties;
  holds boolean;
  laws text[] := '{}';
begin
  if subject ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    for duty in select * from app.retention_duties d order by d.name loop
      execute format('select %s', duty.holds) into holds using subject::uuid;
      laws := case when holds then laws || duty.law else laws end;
    end loop;
  end if;
  return laws;
end $$;

-- Forgets a subject in one table: the rows are deleted, unless something of them has to stay or another row refers to them. Then the
-- columns are cleared.
create function app.erase_in(t record, subject text, addresses text[], laws text[]) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  stay constant text[] := array(select p.col from app.personal_data p
    where p.relation = t.relation and p.col = any (t.cols) and p.legal_basis = 'legal obligation' and laws <> '{}' order by 1);
  goes boolean := stay = '{}' and (select bool_and(p.deleted) from app.personal_data p where p.relation = t.relation and p.col = any (t.cols));
  kept boolean;
  sets text;
  differs text;
  number bigint := 0;
begin
  if goes then
    begin
      execute format('delete from %s t where %s', t.relation, t.condition) using subject, addresses;
      get diagnostics number = row_count;
    exception when foreign_key_violation then
      goes := false;
    end;
  end if;
  if not goes then
    select string_agg(format('%I = %s', p.col, coalesce(p.erased_as, 'null')), ', '),
        string_agg(format('t.%I is distinct from (%s)', p.col, coalesce(p.erased_as, 'null')), ' or ') into sets, differs
      from app.personal_data p where p.relation = t.relation and p.col = any (t.cols) and p.col <> all (stay);
    if sets is not null then
      execute format('update %s t set %s where (%s) and (%s)', t.relation, sets, t.condition, differs) using subject, addresses;
      get diagnostics number = row_count;
    end if;
    if stay <> '{}' then
      execute format('select exists (select from %s t where %s)', t.relation, t.condition) into kept using subject, addresses;
    end if;
  end if;
  return case when number > 0 or kept then jsonb_build_object('table', t.relation, 'deleted', case when goes then number else 0 end,
    'cleared', case when goes then 0 else number end, 'kept', case when kept then to_jsonb(stay) else '[]' end) end;
end $$;

-- In the audit log of the tenant that is set, puts commitments in the place of what is personal of these rows, and of the addresses that
-- the subject came from. What is sealed are those commitments, so that every proof still holds.
create function app.erase_audited(subject text, told jsonb) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  number bigint;
begin
  update public.audit_log l set before = app.committed(l.before, l.salt, 'before'), after = app.committed(l.after, l.salt, 'after'),
      details = app.committed(l.details, l.salt, 'details'),
      client_ip = case when l.client_ip is not null then app.commitment(l.salt, 'client_ip', l.client_ip) end, salt = null
    where l.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid and l.salt is not null
      and (l.actor = subject and l.client_ip is not null
        or exists (select from jsonb_array_elements(told) r where r ->> 'word' = l.resource and r -> 'ids' ? l.resource_id)
          and (jsonb_path_exists(l.before, '$.*.personal') or jsonb_path_exists(l.after, '$.*.personal')));
  get diagnostics number = row_count;
  return number;
end $$;

-- Forgets a subject, or says what would be forgotten: `{"tables": […], "audited": n, "laws": […]}`. What it says of a dry run is what has
-- been done and undone again.
create function app.erase_subject(subject text, addresses text[], of_tenants boolean, dry boolean) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  t record;
  audit record;
  arguments text[];
  ids jsonb;
  told jsonb := '[]';
  done jsonb;
  tables jsonb := '[]';
  audited bigint := 0;
  laws text[] := '{}';
begin
  if of_tenants then
    laws := app.subject_duties(subject);
  end if;
  begin
    for t in select * from app.subject_tables(of_tenants) x order by x.place desc loop
      select g.tgargs into audit from pg_catalog.pg_trigger g
        where g.tgrelid = t.relation::regclass and g.tgname = 'audit' and not g.tgisinternal;
      if found then
        arguments := array(select convert_from(decode(a, 'escape'), 'UTF8')
          from unnest(string_to_array(encode(audit.tgargs, 'escape'), '\000')) a limit 3);
        execute format('select jsonb_agg(%s) from %s t where %s', (select string_agg(format('(to_jsonb(t.%I) #>> ''{}'')', k), ' || '','' || ' order by i)
          from unnest(arguments[2]::text[]) with ordinality x (k, i)), t.relation, t.condition) into ids using subject, addresses;
        told := case when ids is not null then told || jsonb_build_object('word', arguments[1], 'ids', ids) else told end;
      end if;
      done := app.erase_in(t, subject, addresses, laws);
      tables := case when done is not null then tables || done else tables end;
    end loop;
    if of_tenants then
      update public.subject_keys k set sealed = null, destroyed_at = now()
        where k.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid and k.id::text = subject and k.destroyed_at is null;
      set constraints all immediate; -- what the triggers tell of it is forgotten, too
      audited := app.erase_audited(subject, told);
      set constraints all deferred;
    end if;
    if dry then
      raise exception using errcode = 'XXD01';
    end if;
  exception when sqlstate 'XXD01' then
    null;
  end;
  return jsonb_build_object('tables', tables, 'audited', audited, 'laws', to_jsonb(laws));
end $$;

-- The erasures that this database knows of: begun here, or carried out again after a restore. The ledger of all is outside of it.
create table app.known_erasures (
  id uuid primary key,
  at timestamptz not null default now()
);
select app.private_table('app.known_erasures', 'which erasures of the ledger this database knows of');
select app.system_access('app.known_erasures', '{select,insert}', 'an erasure is noted once it is begun; after a restore, once it is done again');

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.subject_addresses(text, boolean), app.subject_data(text, text[], boolean),
    app.erase_subject(text, text[], boolean, boolean) to %I', current_setting('app.system_role'));
end $$;
