-- States of documents: which there are, how one leads to another, and who must not do both of two things.

-- The trigger of app.states. Arguments: the first state, and the transitions as `draft>approved`. Statements ask for the
-- state that they come from (`resource::Transition`), so what fails here is a statement that does not.
create function app.keep_state() returns trigger
language plpgsql as $$
begin
  if tg_op = 'INSERT' and new.status is distinct from tg_argv[0] then
    raise exception '%: a document begins as %, not as %', tg_table_name, tg_argv[0], new.status
      using errcode = 'check_violation', constraint = tg_table_name || '_status_begins';
  elsif tg_op = 'UPDATE' and not old.status || '>' || new.status = any (tg_argv[1]::text[]) then
    raise exception '%: % does not become %', tg_table_name, old.status, new.status
      using errcode = 'check_violation', constraint = tg_table_name || '_status_moves';
  end if;
  return new;
end $$;

-- Declares the states of a tenant's table with a column `status text not null`.
--
--   states       the words, the one in which a document begins first
--   transitions  from which to which: `{draft>approved}`
--   separate     pairs of columns that name who did something, and that never hold the same: {{approved_by,created_by}}
--
-- Adds the check `<table>_status_check`, one check for each pair, and the trigger that refuses other transitions. What Rust
-- declares with `states!` is compared with it by a test.
create function app.states(relation regclass, states text[], transitions text[], separate text[] default '{}')
returns void
language plpgsql as $$
declare
  name constant text := app.qualified(relation);
  id constant text := (select c.relname from pg_catalog.pg_class c where c.oid = relation);
  stranger text;
begin
  select t into stranger from unnest(transitions) t
  where split_part(t, '>', 1) <> all (states) or split_part(t, '>', 2) <> all (states);
  if stranger is not null then
    raise exception 'states(%): the transition ''%'' is not one of two of its states', name, stranger
      using hint = 'Write ''draft>approved'', and name both among the states.';
  end if;
  execute format('alter table %s alter column status set default %L, add constraint %I check (status = any (%L::text[]))',
    name, states[1], id || '_status_check', states);
  execute format('create trigger begins before insert on %s for each row execute function app.keep_state(%L, %L)',
    name, states[1], transitions);
  execute format('create trigger moves before update of status on %s for each row when (old.status is distinct from new.status)
    execute function app.keep_state(%L, %L)', name, states[1], transitions);
  for pair in 1 .. coalesce(array_length(separate, 1), 0) loop
    execute format('alter table %s add constraint %I check (%I <> %I)', name,
      id || '_' || separate[pair][1] || '_not_' || separate[pair][2], separate[pair][1], separate[pair][2]);
  end loop;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.keep_state(), app.states(regclass, text[], text[], text[]) from public;
