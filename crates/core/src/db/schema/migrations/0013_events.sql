-- Domain events: what has happened to a tenant's documents, for other modules and for webhooks (docs/decisions/0025-events.md).
--
-- A transaction that emits adds rows without a number. A number they get afterwards, in the order in which they were emitted, by
-- whichever process holds the tenant's head at the time. Numbers are what readers go by: one is given only to what is
-- committed, and the next one only after it, so that no reader passes an event that is committed later. And those who emit
-- wait for nobody.

create table public.events (
  id uuid not null, -- in the order of time
  position pg_lsn not null default pg_current_wal_insert_lsn(), -- goes up with each change of the database that is committed
  place int not null default 0, -- the order within a transaction
  number bigint, -- the order in which they are read, of one tenant; null until it is given
  name text not null check (name ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*(@[0-9]+)?$'),
  aggregate text not null check (length(aggregate) between 1 and 63), -- what it happened to: `order`
  aggregate_id uuid not null, -- and which one
  payload jsonb not null check (octet_length(payload::text) <= 20480), -- 16 KiB are admitted; jsonb is written with more blanks
  principal uuid, -- who did it; null for work of the system
  origin text not null check (length(origin) <= 128), -- the correlation id of the request or job
  emitted_at timestamptz not null default clock_timestamp()
);

-- How far the numbers of a tenant go. This row is held while numbers are given, and while a reader ends its work.
create table public.event_heads (
  number bigint not null default 0,
  numbered_at timestamptz not null default now()
);

-- How far each subscriber has read.
create table public.event_cursors (
  subscriber text not null check (length(subscriber) <= 200),
  number bigint not null, -- of the last event that it is done with
  failures int not null default 0, -- how often the next one has failed
  error text, -- why it did so last
  retry_at timestamptz, -- when it is tried again
  stopped_at timestamptz -- it has failed for the last time: an operator retries or skips it
);

-- Webhooks that other services have sent, so that each has its effect once.
create table public.webhook_receipts (
  source text not null check (length(source) between 1 and 100), -- as the module calls the other service
  id text not null check (length(id) between 1 and 255), -- the sender's id of the message
  received_at timestamptz not null default now()
);

do $$
declare
  machinery constant text := 'an event tells of a change that is audited itself';
begin
  perform app.tenant_table('public.events', append_only => true, why => 'what has happened in a tenant', unaudited => machinery);
  perform app.tenant_table('public.event_heads', key => '{}', deletable => false, why => 'how far the numbers of events go', unaudited => machinery);
  perform app.tenant_table('public.event_cursors', key => '{subscriber}', deletable => false, why => 'how far subscribers have read', unaudited => machinery);
  perform app.tenant_table('public.webhook_receipts', key => '{source,id}', why => 'webhooks that have come', unaudited => 'what it gives rise to is audited');
end $$;
select app.system_access('public.webhook_receipts', '{select,insert}', 'a webhook comes from a service that is no caller');
select app.system_access('public.events', '{select,update,delete}', 'events of all tenants are numbered, and removed when their time is over', across => true);
select app.system_access('public.event_heads', '{select,insert,update}', 'the numbers of all tenants are given by the process that comes first', across => true);
select app.system_access('public.event_cursors', '{select,insert,update}', 'subscribers of all tenants are woken, and steered by operators', across => true);

-- Those who emit touch this index and the primary key, and no other.
create index events_unnumbered on public.events (tenant_id, position, place) where number is null;
create unique index events_number on public.events (tenant_id, number) where number is not null;
create index events_name on public.events (tenant_id, name, number) where number is not null;
create index events_aggregate on public.events (tenant_id, aggregate_id, number) where number is not null;
-- The transaction refers to its tenant anyway; referring once more would cost each event a look and a lock.
alter table public.events drop constraint events_tenant_id_fkey;
-- Each event is written twice. What is dead is removed soon, whatever the size of the table.
alter table public.events set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
alter table public.event_cursors set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
alter table public.event_heads set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

set local row_security = on; -- a function in SQL is checked as it is made, as if it ran

-- Adds events of the current tenant, in this order.
create function app.emit(events jsonb) returns void
language sql as $$
  insert into public.events (id, place, name, aggregate, aggregate_id, payload, principal, origin)
  select e.id, e.place, e.name, e.aggregate, e.aggregate_id, e.payload, e.principal, e.origin
  from rows from (jsonb_to_recordset(events) as (id uuid, name text, aggregate text, aggregate_id uuid, payload jsonb,
    principal uuid, origin text)) with ordinality as e (id, name, aggregate, aggregate_id, payload, principal, origin, place)
$$;

-- Lets a job that runs come again after so many seconds, in the transaction that has its effects. It keeps its id and its key;
-- `most` attempts are before it again, as when it was new.
create function app.put_off_job(job uuid, attempt smallint, seconds float8, most smallint) returns void
language plpgsql as $$
begin
  with gone as (
    delete from public.job_running r
    where r.tenant_id = nullif((select current_setting('app.tenant_id', true)), '')::uuid
      and r.id = job and r.attempt = put_off_job.attempt
    returning r.*
  )
  insert into public.job_scheduled (tenant_id, id, kind, priority, attempt, attempts, principal, system, origin, unique_key, args,
    state, error, enqueued_at, run_at)
  select g.tenant_id, g.id, g.kind, g.priority, g.attempt - 1, greatest(g.attempts, g.attempt - 1 + most), g.principal, g.system,
    g.origin, g.unique_key, g.args, g.state, null, g.enqueued_at, now() + seconds * interval '1 second'
  from gone g;
  if not found then
    raise exception 'the job is no longer this worker''s' using errcode = 'serialization_failure';
  end if;
end $$;

revoke execute on all functions in schema app from public;

do $$
begin
  execute format('grant execute on function app.emit(jsonb) to %I, %I', current_setting('app.runtime_role'), current_setting('app.system_role'));
  execute format('grant execute on function app.put_off_job(uuid, smallint, float8, smallint) to %I', current_setting('app.runtime_role'));
end $$;
