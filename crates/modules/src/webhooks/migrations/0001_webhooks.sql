-- Outgoing webhooks: which of a tenant's endpoints is told of which events, and what has become of that.

create table public.webhooks (
  id uuid not null,
  url text not null check (length(url) <= 2048),
  description text check (length(description) <= 500),
  events text[] not null check (cardinality(events) between 1 and 200),
  enabled boolean not null default true,
  disabled_reason text check (disabled_reason in ('gone', 'failing', 'switched_off')),
  disabled_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1,
  constraint webhooks_disabled_check check (enabled = (disabled_reason is null) and enabled = (disabled_at is null))
);
-- A path often is a secret.
select app.tenant_table('public.webhooks', audit_as => 'webhook', masked => '{url}', why => 'endpoints that are told of events');
create index webhooks_created_at_idx on public.webhooks (tenant_id, created_at, id);

-- The secrets of endpoints, sealed with WEBHOOK_SECRET. While one is being replaced both sign.
create table public.webhook_secrets (
  webhook_id uuid not null,
  sealed bytea not null check (length(sealed) <= 200),
  previous bytea check (length(previous) <= 200),
  previous_until timestamptz
);
select app.tenant_table('public.webhook_secrets', key => '{webhook_id}', why => 'what deliveries are signed with',
  unaudited => 'making and replacing a secret has an audit row of its own');
select app.tenant_reference('public.webhook_secrets', 'webhook_id', 'public.webhooks', on_delete => 'cascade');

-- How endpoints have answered lately.
create table public.webhook_health (
  webhook_id uuid not null,
  failures int not null default 0, -- since the last success
  failing_since timestamptz, -- the first failure since then, with no more than two days between each and the next one
  failed_at timestamptz,
  rests_until timestamptz, -- nothing is sent before
  succeeded_at timestamptz
) with (fillfactor = 50);
select app.tenant_table('public.webhook_health', key => '{webhook_id}', why => 'how endpoints have answered lately',
  unaudited => 'each attempt is a row of its own');
select app.tenant_reference('public.webhook_health', 'webhook_id', 'public.webhooks', on_delete => 'cascade');

-- One event for one endpoint. Its id is the webhook-id, the same in each attempt.
create table public.webhook_deliveries (
  id uuid not null,
  webhook_id uuid not null,
  event_id uuid, -- null for a test
  number bigint not null, -- the event's, by which those of one aggregate are sent
  name text not null,
  aggregate_id uuid not null,
  status text not null default 'pending' check (status in ('pending', 'succeeded', 'failed', 'held')),
  attempts int not null default 0,
  next_at timestamptz, -- while it is pending
  due_since timestamptz not null default now(), -- four days after that it is given up
  created_at timestamptz not null default now(),
  finished_at timestamptz,
  last_outcome text,
  last_status int
) with (fillfactor = 70);
select app.tenant_table('public.webhook_deliveries', why => 'events for endpoints', unaudited => 'machinery: each attempt is a row of its own');
select app.tenant_reference('public.webhook_deliveries', 'webhook_id', 'public.webhooks', on_delete => 'cascade');
create index webhook_deliveries_created_at_idx on public.webhook_deliveries (tenant_id, webhook_id, created_at, id);
create index webhook_deliveries_pending on public.webhook_deliveries (tenant_id, webhook_id, number) where status = 'pending';
create index webhook_deliveries_order on public.webhook_deliveries (tenant_id, webhook_id, aggregate_id, number) where status = 'pending';
create index webhook_deliveries_event on public.webhook_deliveries (tenant_id, webhook_id, event_id);

-- Each time that something was sent, and what came back.
create table public.webhook_attempts (
  delivery_id uuid not null,
  attempt int not null,
  began_at timestamptz not null,
  milliseconds int not null,
  outcome text not null,
  status int,
  answer text check (length(answer) <= 1000) -- its first bytes
);
select app.tenant_table('public.webhook_attempts', key => '{delivery_id,attempt}', why => 'what endpoints have answered',
  unaudited => 'it is a log itself');
select app.tenant_reference('public.webhook_attempts', 'delivery_id', 'public.webhook_deliveries', on_delete => 'cascade');
