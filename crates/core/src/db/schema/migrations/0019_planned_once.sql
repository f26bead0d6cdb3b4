-- Jobs, events and mails are added by functions that a session plans once. Those before were in SQL, which PostgreSQL before
-- version 18 plans anew with each call.

create or replace function app.enqueue(jobs jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
begin
  with given as materialized (
    select j.id, j.kind, j.priority, j.attempts, j.principal, j.system, j.origin, j.unique_key,
      coalesce(j.args, 'null') as args, -- a record has no JSON null: that of a kind without arguments
      coalesce(j.run_at, now() + j.delay * interval '1 second') as run_at
    from jsonb_to_recordset(enqueue.jobs) as j (id uuid, kind text, priority smallint, attempts smallint, principal uuid,
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
  from wanted where run_at is null or run_at <= now();
end $$;

create or replace function app.emit(events jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
begin
  insert into public.events (id, place, name, aggregate, aggregate_id, payload, principal, origin)
  select e.id, e.place, e.name, e.aggregate, e.aggregate_id, e.payload, e.principal, e.origin
  from rows from (jsonb_to_recordset(emit.events) as (id uuid, name text, aggregate text, aggregate_id uuid, payload jsonb,
    principal uuid, origin text)) with ordinality as e (id, name, aggregate, aggregate_id, payload, principal, origin, place);
end $$;

create or replace function app.add_mails(mails jsonb) returns void
language plpgsql as $$
#variable_conflict use_column
begin
  insert into public.mails (id, template, recipient, recipient_name, locale, subject, text, html, promotional, confidential,
    message_id, state)
  select m.id, m.template, m.recipient, m.recipient_name, m.locale, m.subject, m.text, m.html, m.promotional, m.confidential,
    m.message_id, 'queued'
  from jsonb_to_recordset(add_mails.mails) as m (id uuid, template text, recipient text, recipient_name text, locale text, subject text,
    text text, html text, promotional boolean, confidential boolean, message_id text);
end $$;
