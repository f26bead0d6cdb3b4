-- Jobs: work that is done later, in the tenant of who enqueued it (docs/decisions/0020-jobs.md).
--
-- A job is one row, which moves from table to table: job_scheduled until its time has come, job_ready until a worker claims
-- it, job_running until it is done, then job_done or job_dead. Not one table with a state: the claim then walks past what
-- is not due, and every change of the state leaves a dead entry in its index. Arguments are bounded: what is larger is
-- stored, and the job refers to it.
--
-- Requests enqueue, read and cancel as the runtime role, in their tenant. Workers look across tenants as the system's login,
-- and complete a job as the runtime role in its tenant, in the transaction that has its effects.

-- Work of the platform itself, which belongs to no tenant, has a tenant of its own. Nobody can sign in to it.
insert into public.tenants (id, slug, status) values ('00000000-0000-7000-8000-00000000c000', 'erp-platform', 'reserved');

create table public.job_ready (
  id uuid not null, -- in the order of time
  kind text not null check (kind ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*(@[0-9]+)?$'),
  priority smallint not null check (priority between 0 and 2), -- 0 first
  attempt smallint not null check (attempt >= 0), -- how often it has been begun
  attempts smallint not null check (attempts >= 1), -- how often it may be
  principal uuid, -- whose permissions it has, looked up when it runs
  system text, -- or the declared work of the system that it does
  origin text not null check (length(origin) <= 128), -- the correlation id of who enqueued it
  unique_key text check (length(unique_key) between 1 and 255),
  args jsonb not null check (octet_length(args::text) <= 20480), -- 16 KiB are admitted; jsonb is written with more blanks
  state jsonb, -- what a long job keeps of the steps it has done
  error text, -- why the last attempt failed
  enqueued_at timestamptz not null,
  constraint job_ready_on_behalf check (num_nonnulls(principal, system) = 1)
);

create table public.job_scheduled (like public.job_ready including constraints, run_at timestamptz not null);

create table public.job_running (
  like public.job_ready including constraints,
  worker uuid not null, -- the process that has claimed it, of job_workers
  began_at timestamptz not null,
  progress jsonb
) with (fillfactor = 50); -- so that progress is written beside the row, without touching an index

create table public.job_dead (
  like public.job_ready including constraints,
  died_at timestamptz not null
);

create table public.job_done (
  like public.job_ready including constraints,
  outcome text not null check (outcome in ('succeeded', 'cancelled', 'discarded')),
  began_at timestamptz, -- null for one that was cancelled before
  finished_at timestamptz not null,
  result jsonb check (octet_length(result::text) <= 20480)
) partition by range (finished_at);

-- What is meant to exist once: a key is taken with the job, and given back when the job is over.
create table public.job_keys (
  kind text not null,
  key text not null,
  job uuid not null
);

-- Running jobs that somebody wants to end. Workers look here once a second.
create table public.job_cancels (id uuid not null, asked_at timestamptz not null default now());

do $$
declare
  name text;
  machinery constant text := 'a job is machinery; what it changes is audited, under the one who enqueued it';
begin
  foreach name in array '{job_ready,job_scheduled,job_running,job_dead,job_cancels}'::text[] loop
    perform app.tenant_table(name::regclass, why => 'a tenant''s jobs', unaudited => machinery);
  end loop;
  perform app.tenant_table('public.job_keys', key => '{kind,key}', why => 'jobs that exist once', unaudited => machinery);
  perform app.tenant_table('public.job_done', key => '{id,finished_at}', append_only => true, why => 'jobs that are over',
    unaudited => machinery);
  foreach name in array '{job_ready,job_scheduled,job_running,job_dead,job_keys,job_cancels}'::text[] loop
    perform app.system_access(name::regclass, '{select,insert,update,delete}', 'workers take the next job of any tenant', across => true);
    -- Rows come and go: what is dead is removed soon, whatever the size of the table, and without pauses.
    execute format('alter table public.%I set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
      autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_insert_scale_factor = 0.2)', name);
  end loop;
  perform app.system_access('public.job_done', '{select,insert}', 'a job that changed nothing is completed by its worker', across => true);
end $$;

-- Of one tenant, one kind and one priority: a lane, which is claimed from its beginning.
create index job_ready_lane on public.job_ready (tenant_id, kind, priority, id);
create index job_scheduled_run_at on public.job_scheduled (run_at);
create index job_running_worker on public.job_running (worker);

-- A row comes here from a table that refers to its tenant already; referring once more costs each job a look and a lock.
alter table public.job_running drop constraint job_running_tenant_id_fkey;
alter table public.job_done drop constraint job_done_tenant_id_fkey;

-- The processes that work on jobs. One that has not renewed its row in time has died, and its jobs
-- go to others.
create table public.job_workers (
  id uuid primary key, -- new at each start: a name or an address could come back
  host text not null,
  version text not null,
  slots int not null,
  started_at timestamptz not null default now(),
  beat timestamptz not null default now() -- by the clock of the database, as everything about jobs
);

-- What operators have said of kinds and tenants; it holds for all workers, and over restarts.
create table public.job_kinds (
  kind text primary key,
  paused boolean not null default false
);
create table public.job_tenants (
  tenant uuid primary key,
  paused boolean not null default false,
  weight int not null default 1 check (weight between 1 and 100)
);

-- When each schedule fires next. The process that moves next_at on has fired it.
create table public.job_schedules (
  name text primary key,
  spec text not null, -- the expression and its zone: another one begins anew
  next_at timestamptz not null,
  last_at timestamptz
);

select app.private_table('public.job_workers', 'which processes work on jobs');
select app.private_table('public.job_kinds', 'kinds of jobs that operators have paused');
select app.private_table('public.job_tenants', 'tenants whose jobs operators have paused or weighed');
select app.private_table('public.job_schedules', 'when jobs are enqueued by the clock');
select app.system_access('public.job_workers', '{select,insert,update,delete}', 'workers say that they live, and find those that do not');
select app.system_access('public.job_kinds', '{select,insert,update,delete}', 'workers leave out what is paused');
select app.system_access('public.job_tenants', '{select,insert,update,delete}', 'workers leave out who is paused, and weigh the others');
select app.system_access('public.job_schedules', '{select,insert,update,delete}', 'workers fire what is due, each once');

set local row_security = on; -- a function in SQL is checked as it is made, as if it ran

-- Enqueues jobs of the current tenant. One whose unique key is taken is left out.
create function app.enqueue(jobs jsonb) returns void
language sql as $$
  with given as materialized (
    select j.id, j.kind, j.priority, j.attempts, j.principal, j.system, j.origin, j.unique_key,
      coalesce(j.args, 'null') as args, -- a record has no JSON null: that of a kind without arguments
      coalesce(j.run_at, now() + j.delay * interval '1 second') as run_at
    from jsonb_to_recordset(jobs) as j (id uuid, kind text, priority smallint, attempts smallint, principal uuid,
      system text, origin text, unique_key text, args jsonb, delay float8, run_at timestamptz)
  ), keyed as (
    insert into public.job_keys (kind, key, job) select kind, unique_key, id from given where unique_key is not null
    on conflict do nothing returning job
  ), wanted as materialized (
    select * from given where unique_key is null or id in (select job from keyed)
  ), later as (
    insert into public.job_scheduled (id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args,
      enqueued_at, run_at)
    select id, kind, priority, 0, attempts, principal, system, origin, unique_key, args, now(), run_at
    from wanted where run_at > now()
  )
  insert into public.job_ready (id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args, enqueued_at)
  select id, kind, priority, 0, attempts, principal, system, origin, unique_key, args, now()
  from wanted where run_at is null or run_at <= now()
$$;

-- Completes a job in the transaction that has its effects. A worker that has lost the
-- job to another attempt must not commit.
create function app.complete_job(job uuid, attempt smallint, result jsonb) returns void
language plpgsql as $$
begin
  with gone as (
    delete from public.job_running r
    where r.tenant_id = nullif((select current_setting('app.tenant_id', true)), '')::uuid
      and r.id = job and r.attempt = complete_job.attempt
    returning r.*
  ), freed as (
    delete from public.job_keys k using gone g
    where k.tenant_id = g.tenant_id and k.kind = g.kind and k.key = g.unique_key
  )
  insert into public.job_done (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args,
    state, error, enqueued_at, outcome, began_at, finished_at, result)
  select g.tenant_id, g.id, g.kind, g.priority, g.attempt, g.attempts, g.principal, g.system, g.origin, g.unique_key, g.args,
    g.state, g.error, g.enqueued_at, 'succeeded', g.began_at, clock_timestamp(), complete_job.result
  from gone g;
  if not found then
    raise exception 'the job is no longer this worker''s' using errcode = 'serialization_failure';
  end if;
end $$;

-- Keeps a step of a long job, in the transaction that has the effects of the step.
create function app.keep_job_state(job uuid, attempt smallint, state jsonb, most smallint) returns void
language plpgsql as $$
begin
  update public.job_running r set state = keep_job_state.state, attempts = greatest(r.attempts, r.attempt + most)
  where r.tenant_id = nullif((select current_setting('app.tenant_id', true)), '')::uuid
    and r.id = job and r.attempt = keep_job_state.attempt;
  if not found then
    raise exception 'the job is no longer this worker''s' using errcode = 'serialization_failure';
  end if;
end $$;

-- Makes the partitions of the next months and days, and drops those of jobs that were over so many days ago. It may be run
-- any number of times, at any time: it waits for no lock longer than two seconds, and what it could not do it does the next
-- time. With the rights of the owner, since partitions are made by nobody else; the system's login alone may call it.
--
-- It tells what it did: `made`, `dropped`; and what it did not: `locked`, by somebody's transaction; `occupied`, since the
-- default partition holds rows of that time already; `filled`, of a default partition that holds rows.
create function app.maintain_partitions(job_days int) returns table (part text, outcome text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  today constant timestamp := date_trunc('day', now() at time zone 'UTC');
  known constant text[] := array(select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('public.audit_log'::regclass, 'public.job_done'::regclass));
  day timestamp;
begin
  if job_days < 1 then
    raise exception 'maintain_partitions: jobs are kept for a day at least';
  end if;
  if not pg_try_advisory_xact_lock(hashtextextended('app.maintain_partitions', 0)) then
    return query select 'all'::text, 'locked'::text;
    return;
  end if;
  begin
    perform app.audit_partitions(12);
    return query select w.name, 'occupied'::text
      from (select 'audit_log_' || to_char(today + make_interval(months => m), 'YYYY_MM') as name from generate_series(0, 12) m) w
      where to_regclass('public.' || w.name) is null;
  exception when lock_not_available or deadlock_detected then
    return query select 'audit_log'::text, 'locked'::text;
  end;
  for day in select generate_series(today, today + interval '3 days', interval '1 day') loop
    part := 'job_done_' || to_char(day, 'YYYY_MM_DD');
    continue when to_regclass('public.' || part) is not null;
    begin
      execute format('create table public.%I (like public.job_done including defaults including constraints)', part);
      perform app.isolate(format('public.%I', part)::regclass);
      execute format('alter table public.job_done attach partition public.%I for values from (%L) to (%L)', part,
        day at time zone 'UTC', (day + interval '1 day') at time zone 'UTC');
    exception
      when check_violation then
        outcome := 'occupied';
        return next;
      when lock_not_available or deadlock_detected then
        outcome := 'locked';
        return next;
        exit; -- a transaction that needs the table has waited behind this
    end;
  end loop;
  return query select c.relname::text, 'made'::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent in ('public.audit_log'::regclass, 'public.job_done'::regclass) and c.relname <> all (known) order by 1;
  for part in
    select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'public.job_done'::regclass and c.relname ~ '^job_done_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
      and to_date(right(c.relname, 10), 'YYYY_MM_DD') < today - make_interval(days => job_days)
    order by 1
  loop
    begin
      execute format('drop table public.%I', part);
      outcome := 'dropped';
      return next;
    exception when lock_not_available or deadlock_detected then
      outcome := 'locked';
      return next;
      exit;
    end;
  end loop;
  -- The owner sees no tenant's rows, but a constraint that no row satisfies is checked against all of them; it is undone.
  foreach part in array '{audit_log_default,job_done_default}'::text[] loop
    begin
      execute format('alter table public.%I add constraint is_empty check (false)', part);
      raise exception 'it is empty';
    exception
      when check_violation then
        outcome := 'filled';
        return next;
      when raise_exception or lock_not_available or deadlock_detected then
        null; -- in use: told the next time
    end;
  end loop;
end $$;

create table public.job_done_default partition of public.job_done default;
select app.isolate('public.job_done_default');
select count(*) from app.maintain_partitions(7);

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on all functions in schema app from public;

do $$
declare
  runtime constant text := current_setting('app.runtime_role');
  login constant text := current_setting('app.system_role');
begin
  execute format('grant execute on function app.enqueue(jsonb) to %I, %I', runtime, login);
  execute format('grant execute on function app.complete_job(uuid, smallint, jsonb), app.keep_job_state(uuid, smallint, jsonb, smallint) to %I',
    runtime);
  execute format('grant execute on function app.maintain_partitions(int) to %I', login);
end $$;
