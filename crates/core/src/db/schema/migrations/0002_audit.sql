-- The audit log: what happened, to what, by whom; gap-free per tenant, in the same transaction as the change.
--
-- Two ways in: app.audit(…) for an event that code reports, and the trigger of app.tenant_table(audit_as => …) for
-- every row that changes. Both take the next number of the tenant from its head row, whose lock orders the tenant's
-- writers until they commit; a rollback gives the number back. The runtime role adds rows and reads them, no more.

create table public.audit_log (
  seq bigint not null,
  at timestamptz not null,
  actor text not null, -- a user's id, or a word such as system:sign-in
  action text not null,
  resource text not null,
  resource_id text,
  before jsonb,
  after jsonb,
  outcome text not null default 'success',
  correlation_id text,
  client_ip text,
  details jsonb
) partition by range (at);

create table public.audit_log_default partition of public.audit_log default;

select app.tenant_table('public.audit_log', key => '{at,seq}', append_only => true,
  why => 'what happened in a tenant; at grows with seq, so the key also reads in order');

-- Makes the partitions of this month and of the following ones, in UTC. Run as owner, any number of times.
create function app.audit_partitions(months_ahead int) returns void
language plpgsql as $$
declare
  this_month constant timestamp := date_trunc('month', now() at time zone 'UTC');
  month timestamp;
  part text;
begin
  for month in select generate_series(this_month, this_month + make_interval(months => months_ahead), '1 month') loop
    part := 'audit_log_' || to_char(month, 'YYYY_MM');
    continue when to_regclass('public.' || part) is not null;
    begin
      execute format('create table public.%I partition of public.audit_log for values from (%L) to (%L)',
        part, month at time zone 'UTC', (month + interval '1 month') at time zone 'UTC');
      perform app.isolate(format('public.%I', part)::regclass);
    exception when check_violation then
      raise warning 'audit_partitions: % not made, audit_log_default already holds rows of that month', part;
    end;
  end loop;
end $$;

select app.audit_partitions(12);

create table public.audit_heads (seq bigint not null);

select app.tenant_table('public.audit_heads', key => '{}', why => 'the last number of each tenant''s audit log');

-- A head comes with its tenant and goes forward one by one; the runtime role can do nothing else to it.
create function app.audit_head_only_counts() returns trigger
language plpgsql as $$
begin
  raise exception 'audit_heads: seq goes from % to %, not to %', old.seq, old.seq + 1, new.seq
    using errcode = 'insufficient_privilege';
end $$;

create trigger only_counts before update of seq on public.audit_heads
  for each row when (new.seq <> old.seq + 1) execute function app.audit_head_only_counts();

do $$
begin
  execute format('revoke insert, delete on public.audit_heads from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select,update}' where relation = 'public.audit_heads';
end $$;

create function app.audit_head() returns trigger
language plpgsql as $$
declare
  caller constant text := coalesce(current_setting('app.tenant_id', true), '');
begin
  perform set_config('app.tenant_id', new.id::text, true);
  insert into public.audit_heads (tenant_id, seq) values (new.id, 0);
  perform set_config('app.tenant_id', caller, true);
  return null;
end $$;

create trigger audit_head after insert on public.tenants for each row execute function app.audit_head();

do $$
declare
  tenant uuid;
begin
  for tenant in select id from public.tenants loop
    perform set_config('app.tenant_id', tenant::text, true);
    insert into public.audit_heads (tenant_id, seq) values (tenant, 0);
  end loop;
  perform set_config('app.tenant_id', '', true);
end $$;

-- Writes one audit row for the current tenant and returns its number. Call it last: it holds the tenant's head.
create function app.audit(
  action text,
  resource text,
  resource_id text,
  before jsonb default null,
  after jsonb default null,
  outcome text default 'success',
  details jsonb default null
) returns bigint
language plpgsql as $$
declare
  written bigint;
begin
  with head as (
    update public.audit_heads h set seq = h.seq + 1
    where h.tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid
    returning h.tenant_id, h.seq
  )
  insert into public.audit_log as l (tenant_id, seq, at, actor, action, resource, resource_id, before, after,
    outcome, correlation_id, client_ip, details)
  select h.tenant_id, h.seq, clock_timestamp(),
    coalesce(nullif(current_setting('app.actor', true), ''), 'role:' || session_user),
    audit.action, audit.resource, audit.resource_id, audit.before, audit.after, audit.outcome,
    nullif(current_setting('app.correlation_id', true), ''), nullif(current_setting('app.client_ip', true), ''),
    audit.details
  from head h
  returning l.seq into written;
  if written is null then
    raise exception 'audit(%): no tenant is set, or it has no row in audit_heads', action
      using hint = 'Audit within a tenant''s transaction.', errcode = 'insufficient_privilege';
  end if;
  return written;
end $$;

-- The row trigger of app.tenant_table. Arguments: the word for a row, its key columns, the masked columns.
-- Only the columns that changed are kept, bookkeeping columns are left out; a change of nothing writes nothing.
create function app.audit_change() returns trigger
language plpgsql as $$
declare
  was constant jsonb := to_jsonb(old);
  is_now constant jsonb := to_jsonb(new);
  masked constant text[] := tg_argv[2];
  changed text[];
begin
  changed := array(
    select c from jsonb_object_keys(coalesce(is_now, was)) c
    where was -> c is distinct from is_now -> c and c <> all ('{tenant_id,updated_at,version}'));
  if changed = '{}' and tg_op = 'UPDATE' then
    return null;
  end if;
  perform app.audit(
    tg_argv[0] || case tg_op when 'INSERT' then '.created' when 'UPDATE' then '.updated' else '.deleted' end,
    tg_argv[0],
    (select string_agg(coalesce(is_now, was) ->> k, ',') from unnest(tg_argv[1]::text[]) k),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else was -> c end)
      from unnest(changed) c where was is not null),
    (select jsonb_object_agg(c, case when c = any (masked) then '"[masked]"' else is_now -> c end)
      from unnest(changed) c where is_now is not null));
  return null;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.audit(text, text, text, jsonb, jsonb, text, jsonb) to %I',
    current_setting('app.runtime_role'));
end $$;
