-- Foreign keys between tenants' tables, made in one way.

-- Lets a column of a tenant's table refer to the `id` of another one (or the same). Adds the foreign key
-- `<table>_<column>_fkey`, which pairs the tenants, and the index that its checks need.
--
--   on_delete  what becomes of the row when the one that it refers to is deleted: `no action` refuses, as `restrict` does
--              at once; `cascade` deletes it too
--
-- `alter table … add foreign key` alone fails in a migration: it would look at all rows, and row level security is forced
-- on the owner. Rows that are there already are looked at tenant by tenant.
create function app.tenant_reference(relation regclass, col text, parent regclass, on_delete text default 'no action')
returns void
language plpgsql set row_security = on as $$
declare
  name constant text := app.qualified(relation);
  parent_name constant text := app.qualified(parent);
  id constant text := (select c.relname from pg_catalog.pg_class c where c.oid = relation);
  stranger text;
  orphans bigint;
begin
  select n into stranger from unnest(array[name, parent_name]) n
  where not exists (select from app.relations r where r.relation = n and r.kind = 'tenant');
  if stranger is not null then
    raise exception 'tenant_reference(%, %): % is not a tenant''s table', name, col, stranger
      using hint = 'Hand the table to app.tenant_table first; to a table that all tenants share, write a plain foreign key.';
  end if;
  if on_delete not in ('no action', 'restrict', 'cascade') then
    raise exception 'tenant_reference(%, %): on_delete is ''%''', name, col, on_delete
      using hint = 'Write ''no action'', ''restrict'' or ''cascade''.';
  end if;
  -- The tenant is named, since a superuser who runs this sees all rows in each of them.
  orphans := app.for_each_tenant(format('select from %s c
    where c.tenant_id = current_setting(''app.tenant_id'')::uuid and c.%I is not null
    and not exists (select from %s p where p.tenant_id = c.tenant_id and p.id = c.%I)', name, col, parent_name, col));
  if orphans > 0 then
    raise exception 'tenant_reference(%, %): % rows refer to nothing', name, col, orphans
      using hint = 'Correct them first, with app.for_each_tenant.';
  end if;
  execute format('alter table %s add constraint %I foreign key (tenant_id, %I) references %s (tenant_id, id) on delete %s',
    name, id || '_' || col || '_fkey', col, parent_name, on_delete);
  execute format('create index %I on %s (tenant_id, %I)', id || '_' || col || '_idx', name, col);
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.tenant_reference(regclass, text, regclass, text) from public;
