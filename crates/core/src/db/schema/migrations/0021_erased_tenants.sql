-- The end of a tenant: closed, kept for a while, and erased. What stays is its row in the directory, without its name, and the entries
-- of its audit log that tell of the tenant itself: when it was made, moved from state to state and erased, by whom and why.

alter table public.tenants
  add column closed_at timestamptz, -- since when it is closed
  drop constraint tenants_status_check,
  add constraint tenants_status_check check (status in ('active', 'suspended', 'closed', 'erasing', 'erased', 'reserved'));
update public.tenants set closed_at = now() where status = 'closed';

-- Whether the tenant was in one of the states before.
create or replace function app.move_tenant(id uuid, before text[], status text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if move_tenant.status not in ('active', 'suspended', 'closed') then
    raise exception 'move_tenant: no tenant becomes %', move_tenant.status;
  end if;
  update public.tenants t set status = move_tenant.status,
      closed_at = case when move_tenant.status = 'closed' then now() end
    where t.id = move_tenant.id and t.status = any (move_tenant.before) and t.status in ('active', 'suspended', 'closed');
  return found;
end $$;

-- Begins to erase a tenant that has been closed for so long; from then on there is no way back. True also where it has begun.
create function app.begin_erasure(id uuid, grace interval) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  update public.tenants t set status = 'erasing'
    where t.id = begin_erasure.id and (t.status = 'erasing' or t.status = 'closed' and t.closed_at <= now() - grace);
  return found;
end $$;

-- Deletes so many rows of the tenant that is set, of one table, those first that refer to others. No row where nothing is left.
create function app.erase_rows(most int, out relation text, out erased bigint) returns setof record
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  tenant constant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  kept text;
begin
  perform from public.tenants t where t.id = tenant and t.status = 'erasing';
  if not found then
    raise exception 'erase_rows: the tenant is not being erased' using errcode = 'insufficient_privilege';
  end if;
  for relation in select r.relation from app.relations r where r.kind = 'tenant' and r.relation <> 'public.audit_heads'
    order by r.ordinal desc
  loop
    kept := case when relation = 'public.audit_log' then ' and not (resource = ''tenant'' and before is null and after is null)' else '' end;
    begin
      execute format('with part as (select ctid, tableoid from %1$s where tenant_id = $1%2$s limit $2)
        delete from %1$s d using part where d.tenant_id = $1 and d.tableoid = part.tableoid and d.ctid = part.ctid', relation, kept)
        using tenant, most;
    exception when foreign_key_violation then -- rows of it refer to one another
      execute format('delete from %s where tenant_id = $1%s', relation, kept) using tenant;
    end;
    get diagnostics erased = row_count;
    if erased > 0 then
      return next;
      return;
    end if;
  end loop;
end $$;

-- The tenant that is set is erased, and its slug is free.
create function app.end_erasure() returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  update public.tenants t set status = 'erased', slug = 'erased-' || t.id
    where t.id = nullif(current_setting('app.tenant_id', true), '')::uuid and t.status = 'erasing';
  if not found then
    raise exception 'end_erasure: the tenant is not being erased' using errcode = 'insufficient_privilege';
  end if;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.begin_erasure(uuid, interval), app.erase_rows(int), app.end_erasure() from public;

do $$
begin
  execute format('grant execute on function app.begin_erasure(uuid, interval), app.erase_rows(int), app.end_erasure() to %I',
    current_setting('app.system_role'));
end $$;

-- The row trigger of app.tenant_table, as before; but that a row goes with its tenant is no change that somebody made.
create or replace function app.audit_change() returns trigger
language plpgsql as $$
declare
  was constant jsonb := to_jsonb(old);
  is_now constant jsonb := to_jsonb(new);
  masked constant text[] := tg_argv[2];
  named constant text := current_setting('app.action', true);
  changed text[];
begin
  if tg_op = 'DELETE' and exists (select from public.tenants t where t.id = old.tenant_id and t.status = 'erasing') then
    return null;
  end if;
  changed := array(
    select c from jsonb_object_keys(coalesce(is_now, was)) c
    where was -> c is distinct from is_now -> c and c <> all ('{tenant_id,updated_at,version}')
      and right(c, 7) <> '_folded');
  if changed = '{}' and tg_op = 'UPDATE' then
    return null;
  end if;
  perform app.audit(
    case when split_part(named, '.', 1) = tg_argv[0] then named
      else tg_argv[0] || case tg_op when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end end,
    tg_argv[0],
    (select string_agg(coalesce(is_now, was) ->> k, ',') from unnest(tg_argv[1]::text[]) k),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else was -> c end)
      from unnest(changed) c where was is not null),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else is_now -> c end)
      from unnest(changed) c where is_now is not null));
  return null;
end $$;

-- As before; but the files of a tenant that is being erased have left the store already.
create or replace function app.release_deleted_files() returns trigger
language plpgsql as $$
begin
  perform app.release_objects(g.tenant_id, array_agg(g.id), array_agg(g.bytes))
    from gone g where g.removed_at is null
      and not exists (select from public.tenants t where t.id = g.tenant_id and t.status = 'erasing')
    group by g.tenant_id;
  return null;
end $$;
