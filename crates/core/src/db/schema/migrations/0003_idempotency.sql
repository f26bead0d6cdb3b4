-- Answers to requests that carry an Idempotency-Key, kept so that a repetition gets the same one. A row is claimed before
-- the work, and gets its answer in the transaction that does the work.

create table public.idempotency_keys (
  principal text not null,
  route text not null,
  key text not null check (length(key) between 1 and 255),
  fingerprint bytea not null,
  claim uuid not null,
  claimed_until timestamptz not null,
  expires_at timestamptz not null,
  -- Null while the request is worked on.
  status smallint,
  headers jsonb,
  body bytea
);

select app.tenant_table('public.idempotency_keys', key => '{principal,route,key}',
  why => 'answers that a repeated request gets again');

create index idempotency_keys_expires_at_idx on public.idempotency_keys (tenant_id, expires_at);

-- Stores the answer. Whoever has lost its claim, since its time was over and another took the key, must not commit.
create function app.store_answer(
  principal text, route text, key text, claim uuid, status smallint, headers jsonb, body bytea
) returns void
language plpgsql as $$
begin
  update public.idempotency_keys k
    set status = store_answer.status, headers = store_answer.headers, body = store_answer.body
    where k.principal = store_answer.principal and k.route = store_answer.route and k.key = store_answer.key
      and k.claim = store_answer.claim and k.status is null;
  if not found then
    raise exception 'the claim on the idempotency key is lost' using errcode = 'serialization_failure';
  end if;
end $$;

revoke execute on function app.store_answer(text, text, text, uuid, smallint, jsonb, bytea) from public;
do $$
begin
  execute format('grant execute on function app.store_answer(text, text, text, uuid, smallint, jsonb, bytea) to %I',
    current_setting('app.runtime_role'));
end $$;
