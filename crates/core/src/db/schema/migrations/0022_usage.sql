-- How much tenants use (docs/decisions/0043-quotas.md).
--
-- What a tenant keeps, such as items, is counted by the tables that hold it: in the transaction that adds or removes a row, by
-- whatever way it does. What happens, such as requests, is gathered by each process, which adds it here every few seconds.

-- What there is now. The day is that of the last change, and `most` is the largest number of that day.
create table public.usage_totals (
  meter text not null check (meter ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  used bigint not null check (used between 0 and 9007199254740991),
  most bigint not null check (most >= used),
  day date not null
);

-- What happened on a day (UTC), or what there was at its end; `most` is null for what happens. A day on which nothing changed has
-- no row.
create table public.usage (
  day date not null,
  meter text not null check (meter ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$'),
  used bigint not null check (used between 0 and 9007199254740991),
  most bigint check (most >= used)
);

select app.tenant_table('public.usage_totals', key => '{meter}', deletable => false, why => 'how much a tenant keeps',
  unaudited => 'a counter; what is counted is audited');
select app.tenant_table('public.usage', key => '{meter,day}', deletable => false, why => 'how much a tenant used, day by day',
  unaudited => 'a counter; what is counted is audited, or is a line of the log');

select app.system_access('public.usage_totals', '{select,insert,update}',
  'what the system keeps for a tenant counts, too; operators see what tenants use', across => true);
select app.system_access('public.usage', '{select,insert,update}',
  'each process adds what all tenants have used; operators bill by it', across => true);

-- A row is written by what counts, and by the system: a feature module cannot change what its tenant has used. The canary of the
-- isolation proof can.
create function app.keep_usage() returns trigger
language plpgsql as $$
begin
  if pg_trigger_depth() < 2 and current_user = tg_argv[0] and new.meter not like 'canary.%' then
    raise exception '%: it is counted, and not written', tg_table_name
      using errcode = 'insufficient_privilege', hint = 'Let the table be counted by app.metered.';
  end if;
  return new;
end $$;

do $$
declare
  name text;
begin
  foreach name in array array['public.usage_totals', 'public.usage'] loop
    execute format('create trigger counted before insert or update on %s for each row execute function app.keep_usage(%L)',
      name, current_setting('app.runtime_role'));
  end loop;
end $$;

-- Counts rows that came or went. Beyond the quota no row comes; rows may always go. The quotas are those of the plan, which the
-- transaction brings along as app.quotas: requests cannot read plans.
create function app.count_usage(tenant uuid, what text, delta bigint, is_limited boolean) returns void
language plpgsql as $$
declare
  today constant date := (clock_timestamp() at time zone 'UTC')::date;
  quota constant bigint := case when is_limited and delta > 0
    then (nullif(current_setting('app.quotas', true), '')::jsonb ->> what)::bigint end;
  was public.usage_totals;
begin
  update public.usage_totals t set used = greatest(t.used + delta, 0), most = greatest(t.most, t.used + delta)
    where t.tenant_id = tenant and t.meter = what and t.day = today and (quota is null or t.used + delta <= quota);
  if found or delta = 0 then
    return;
  end if;
  -- Another day, the first row of all, or no room. Where a tenant is erased, its counter may go before what it counts.
  if delta > 0 then
    insert into public.usage_totals (tenant_id, meter, used, most, day) values (tenant, what, 0, 0, today) on conflict do nothing;
  end if;
  select * into was from public.usage_totals t where t.tenant_id = tenant and t.meter = what for update;
  if not found then
    return;
  end if;
  if was.used + delta > quota then
    raise exception '%: % of % are used', what, was.used, quota
      using errcode = 'UQ001', detail = jsonb_build_object('meter', what, 'limit', quota, 'used', was.used);
  end if;
  if was.day < today then
    insert into public.usage as u (tenant_id, day, meter, used, most) values (tenant, was.day, what, was.used, was.most)
      on conflict on constraint usage_pkey do update set used = excluded.used, most = greatest(u.most, excluded.most);
  end if;
  update public.usage_totals t set used = greatest(was.used + delta, 0), day = greatest(was.day, today),
      most = case when was.day < today then greatest(was.used, was.used + delta) else greatest(was.most, was.used + delta) end
    where t.tenant_id = tenant and t.meter = what;
end $$;

-- The triggers of app.metered: the meter, and which rows count, if not all.
create function app.count_added() returns trigger
language plpgsql as $$
begin
  if tg_nargs = 1 then
    perform app.count_usage(r.tenant_id, tg_argv[0], r.number, true)
      from (select a.tenant_id, count(*) as number from added a group by a.tenant_id) r;
  else
    execute format('select app.count_usage(r.tenant_id, $1, r.number, true)
      from (select a.tenant_id, count(*) as number from added a where %s group by a.tenant_id) r', tg_argv[1]) using tg_argv[0];
  end if;
  return null;
end $$;

create function app.count_removed() returns trigger
language plpgsql as $$
begin
  if tg_nargs = 1 then
    perform app.count_usage(r.tenant_id, tg_argv[0], -r.number, true)
      from (select a.tenant_id, count(*) as number from removed a group by a.tenant_id) r;
  else
    execute format('select app.count_usage(r.tenant_id, $1, -r.number, true)
      from (select a.tenant_id, count(*) as number from removed a where %s group by a.tenant_id) r', tg_argv[1]) using tg_argv[0];
  end if;
  return null;
end $$;

create function app.count_changed() returns trigger
language plpgsql as $$
begin
  execute format('select app.count_usage(r.tenant_id, $1, r.number, true) from (select b.tenant_id, sum(b.number) as number
      from (select a.tenant_id, 1 as number from added a where %1$s union all select a.tenant_id, -1 from removed a where %1$s) b
      group by b.tenant_id having sum(b.number) <> 0) r', tg_argv[1]) using tg_argv[0];
  return null;
end $$;

-- Lets a meter count the rows of a tenant's table, or those for which a condition holds: `app.metered('public.items',
-- 'catalog.items')`. Rows that are there already are counted here.
create function app.metered(relation regclass, meter text, counted text default null) returns void
language plpgsql as $$
declare
  name constant text := app.qualified(relation);
  arguments constant text := concat_ws(', ', quote_literal(meter), quote_literal(counted));
begin
  if not exists (select from app.relations r where r.relation = name and r.kind = 'tenant') then
    raise exception 'metered(%): it is no tenant''s table', name using hint = 'Hand it to app.tenant_table first.';
  end if;
  execute format('create trigger count_added after insert on %s referencing new table as added
    for each statement execute function app.count_added(%s)', name, arguments);
  execute format('create trigger count_removed after delete on %s referencing old table as removed
    for each statement execute function app.count_removed(%s)', name, arguments);
  if counted is not null then
    execute format('create trigger count_changed after update on %s referencing old table as removed new table as added
      for each statement execute function app.count_changed(%s)', name, arguments);
  end if;
  perform app.for_each_tenant(format('select app.count_usage(r.tenant_id, %L, r.number, false)
    from (select a.tenant_id, count(*) as number from %s a where %s group by a.tenant_id) r', meter, name, coalesce(counted, 'true')));
end $$;

-- What files take has a quota of its own, in file_usage; here it is only shown, day by day.
create function app.count_bytes() returns trigger
language plpgsql as $$
declare
  had constant bigint := case when tg_op = 'UPDATE' then old.bytes else 0 end;
begin
  if new.bytes <> had then
    perform app.count_usage(new.tenant_id, 'core.file_bytes', new.bytes - had, false);
  end if;
  return null;
end $$;

create trigger count_bytes after insert or update of bytes on public.file_usage for each row execute function app.count_bytes();
select app.for_each_tenant('select app.count_usage(f.tenant_id, ''core.file_bytes'', f.bytes, false) from public.file_usage f
  where f.bytes > 0');

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.count_usage(uuid, text, bigint, boolean) to %I, %I',
    current_setting('app.runtime_role'), current_setting('app.system_role'));
end $$;
