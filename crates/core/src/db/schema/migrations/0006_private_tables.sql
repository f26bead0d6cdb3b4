-- Tables that only the owner touches. Every table is registered, so that one which a migration forgot is found (the
-- runner refuses the migration, and the isolation proof the start); these say that they are meant to be out of reach.

alter table app.relations drop constraint relations_kind_check,
  add constraint relations_kind_check check (kind in ('tenant', 'shared-read', 'member-scoped', 'private'));

-- Registers a table that the runtime role can neither read nor write.
create function app.private_table(relation regclass, why text) returns void
language plpgsql as $$
declare
  name text := app.qualified(relation);
begin
  execute format('revoke all on %s from public, %I', name, current_setting('app.runtime_role'));
  insert into app.relations (relation, kind, privileges, why) values (name, 'private', '{}', why);
  perform app.bound_times(relation);
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.private_table(regclass, text) from public;
