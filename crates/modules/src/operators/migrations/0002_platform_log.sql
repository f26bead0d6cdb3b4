-- What operators did that concerns no tenant moves into the log of all that does (core/0025_platform_log).
insert into app.platform_log (at, actor, action, subject, details, correlation_id)
  select at, actor, action, subject, details, correlation_id from auth.operator_log order by id;
drop table auth.operator_log;
delete from app.relations where relation = 'auth.operator_log';
