-- Operators look at the endpoints of all tenants (erp-backend webhooks), and a gauge counts those that are disabled.

select app.system_access('public.webhooks', '{select,update}', 'operators look at endpoints and switch them', across => true);
select app.system_access('public.webhook_health', '{select,update}', 'operators see how endpoints answer', across => true);
select app.system_access('public.webhook_deliveries', '{select,update}', 'operators let deliveries be sent again', across => true);

create index webhooks_disabled on public.webhooks (tenant_id, disabled_reason) where not enabled;
