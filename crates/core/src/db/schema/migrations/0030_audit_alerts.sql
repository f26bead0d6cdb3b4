-- Anomalies in tenants' audit logs (docs/decisions/0056-anomalies.md): how far the rules have gone over a log, and what they have found.

-- How far somebody has read a tenant's audit log, and what he remembers of it.
create table public.audit_cursors (
  reader text not null check (reader ~ '^[a-z][a-z-]{0,59}$'),
  seq bigint not null, -- the last row that was read
  at timestamptz not null, -- and its time
  memory jsonb not null default '{}'
);
select app.tenant_table('public.audit_cursors', key => '{reader}', deletable => false, why => 'how far a tenant''s audit log was read',
  unaudited => 'made of the audit log');

create table public.audit_alerts (
  id uuid not null,
  rule text not null check (length(rule) between 1 and 60),
  severity text not null check (severity in ('low', 'medium', 'high', 'critical')),
  about text not null,
  key text not null, -- what its events have in common
  began_at timestamptz not null,
  last_at timestamptz not null,
  numbers jsonb not null,
  rows bigint[] not null check (cardinality(rows) <= 1000),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1,
  acknowledged_at timestamptz,
  acknowledged_by uuid, -- the principal
  note text check (length(note) <= 2000)
);
select app.tenant_table('public.audit_alerts', audit_as => 'audit_alert', deletable => false, why => 'what the rules for anomalies have found');
create index audit_alerts_created_at_idx on public.audit_alerts (tenant_id, created_at, id);
create index audit_alerts_unacknowledged_idx on public.audit_alerts (severity) where acknowledged_at is null;
create index audit_alerts_open_idx on public.audit_alerts (tenant_id, rule, key, last_at);

do $$
begin
  execute format('revoke insert, update, delete on public.audit_cursors from %I', current_setting('app.runtime_role'));
  execute format('revoke insert, delete on public.audit_alerts from %I', current_setting('app.runtime_role'));
  update app.relations set privileges = '{select}', canary = true where relation = 'public.audit_cursors';
  update app.relations set privileges = '{select,update}', canary = true where relation = 'public.audit_alerts';
end $$;
select app.system_access('public.audit_cursors', '{select,insert,update}', 'audit logs are read by rules for anomalies, and by streams', across => true);
select app.system_access('public.audit_alerts', '{select,insert,update}', 'what rules for anomalies have found is kept, and counted', across => true);

-- An alert is an event.
select app.system_access('public.events', '{select,insert,update,delete}',
  'events of all tenants are numbered, and removed when their time is over; work of the system emits some', across => true);

-- Rows of canary-one, for the isolation proof. Nobody has done anything: its log does not tell of them.
alter table public.audit_alerts disable trigger audit;
set local row_security = on;
set local app.tenant_id = '00000000-0000-7000-8000-00000000c001';
insert into public.audit_cursors (reader, seq, at) values ('canary-first', 0, '2000-01-01');
insert into public.audit_alerts (id, rule, severity, about, key, began_at, last_at, numbers, rows)
  values ('00000000-0000-7000-8000-00000000ca29', 'canary', 'low', 'Canary', 'canary', '2000-01-01', '2000-01-01', '{}', '{}');
set local app.tenant_id = '';
set local row_security = off;
alter table public.audit_alerts enable trigger audit;
