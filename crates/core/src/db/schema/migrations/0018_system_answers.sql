-- What the system does on behalf of a caller may be asked for under an Idempotency-Key, too: its answer is stored in the
-- transaction that does the work, which is one of the system's login.

select app.system_access('public.idempotency_keys', '{select,update}',
  'the answer to what the system does on behalf of a caller is stored with it');

do $$
begin
  execute format('grant execute on function app.store_answer(text, text, text, uuid, smallint, jsonb, bytea) to %I',
    current_setting('app.system_role'));
end $$;

-- The directory of tenants is its owner's. The system's login adds to it and moves a tenant from one state to another by these
-- two, as an operator asks for it; nothing else in the directory changes.
create function app.add_tenant(id uuid, slug text) returns void
language sql security definer
set search_path = pg_catalog, pg_temp as $$
  insert into public.tenants (id, slug) values (add_tenant.id, add_tenant.slug)
$$;

-- Whether the tenant was in one of the states before.
create function app.move_tenant(id uuid, before text[], status text) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
begin
  if move_tenant.status not in ('active', 'suspended', 'closed') then
    raise exception 'move_tenant: no tenant becomes %', move_tenant.status;
  end if;
  update public.tenants t set status = move_tenant.status
    where t.id = move_tenant.id and t.status = any (move_tenant.before) and t.status <> 'reserved';
  return found;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.add_tenant(uuid, text), app.move_tenant(uuid, text[], text) from public;

do $$
begin
  execute format('grant execute on function app.add_tenant(uuid, text), app.move_tenant(uuid, text[], text) to %I',
    current_setting('app.system_role'));
end $$;

-- A table that requests read and do not add to has a row of canary-one from its migration, beside the sample that the system's
-- login adds: without one, that a request finds nothing of another tenant would prove nothing.
alter table app.relations add column canary boolean not null default false;
