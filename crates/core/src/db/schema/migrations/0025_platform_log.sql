-- What happens that concerns no tenant: migrations, starts and stops, changes of the log level, and what operators do.
-- What somebody does in a tenant stands in that tenant's audit log.

create table app.platform_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  actor text not null, -- `operator:` and its id, or `system:` and the work
  action text not null,
  subject text, -- to whom or what it was done, if to one
  details jsonb not null default '{}',
  correlation_id text not null
);
select app.private_table('app.platform_log', 'what happened that concerns no tenant');
select app.system_access('app.platform_log', '{select,insert}', 'an entry is added with what it tells of, and none is changed');
