-- Acts out the plan: every step on every registered relation, in the order in which they were made, each in its own
-- subtransaction; what needs a row of one's own only where the login can see one; tables that the system's login sees all
-- rows of by registration are left out; notes the number of rows or the SQLSTATE. Judges nothing, keeps nothing: the caller rolls back.
do $canary$
declare
  plan constant jsonb := current_setting('app.proof_plan');
  as_system constant boolean := current_setting('app.proof_login') = 'system';
  fresh constant boolean := current_setting('app.tenant_id', true) is null;
  step record;
  touched bigint;
  outcome text;
  outcomes text[];
begin
  if current_setting('transaction_read_only')::boolean then
    return;
  end if;
  for step in
    select r.relation, s.no, s.tenant, s.principal, case when s.lifts then r.row_lifted_by else '' end as lifted, s.sql = '{sample}' as keep,
      replace(replace(coalesce(case when s.sql = '{sample}' then plan -> 'samples' ->> r.relation end, s.sql), '{table}', r.relation),
        '{owner}', coalesce(r.row_owner, '')) as sql
    from (select relation, k.kind, case when as_system then system_privileges else privileges end as privileges, ordinal, canary,
          row_lifted_by, row_owner
        from app.relations, unnest(array[app.relations.kind, case when row_condition is not null and not as_system then 'own-rows' end]) k (kind)
        where to_regclass(relation) is not null and not (as_system and system_across)
        union all select 'the server', 'server', '{}', 2147483647, false, null, null) r
    join jsonb_to_recordset(plan -> 'steps') s (no int, kind text, tenant text, principal text, lifts boolean, sql text, own_row boolean) on s.kind = r.kind
    where (s.tenant is not null or fresh)
      and (s.sql <> '{sample}' or (plan -> 'samples' ? r.relation and 'insert' = any (r.privileges)))
      -- A sample that the login may not add is not there, unless a migration has kept one; a table without one got its row with
      -- the tenant.
      and (not s.own_row or 'select' = any (r.privileges)
        and ('insert' = any (r.privileges) or r.canary or not plan -> 'samples' ? r.relation))
    order by s.tenant is not null, r.ordinal, s.no
  loop
    if step.tenant is not null then
      perform set_config('app.tenant_id', step.tenant, true), set_config('app.principal', step.principal, true),
        set_config('app.lifted', step.lifted, true);
    end if;
    begin
      execute step.sql;
      get diagnostics touched = row_count;
      outcome := touched;
      if touched > 0 and not step.keep then
        raise sqlstate 'UNDO0'; -- an attack that worked must not change what the next ones find
      end if;
    exception when others then
      outcome := case sqlstate when 'UNDO0' then outcome else sqlstate end;
    end;
    outcomes := outcomes || array[step.relation, step.no::text, outcome];
    exit when outcome = '55P03'; -- locked by somebody: waiting once is enough
  end loop;
  perform set_config('app.proof_outcomes', to_jsonb(outcomes)::text, true);
end $canary$;
