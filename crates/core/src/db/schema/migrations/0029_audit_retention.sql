-- For how long a tenant keeps which rows of its audit log, and what must not go meanwhile (docs/decisions/0055-retention-of-the-audit-log.md).

-- Legal holds: what they cover is removed by no retention.
create table public.audit_holds (
  id uuid not null,
  reason text not null check (length(reason) between 1 and 1000),
  resource text check (length(resource) between 1 and 200), -- rows of this kind of thing,
  resource_id text check (length(resource_id) between 1 and 400), -- of this one, if it is said,
  subject text check (length(subject) between 1 and 400), -- or rows that somebody has caused, or that concern or name him
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 1,
  released_at timestamptz,
  constraint audit_holds_something check (num_nonnulls(resource, subject) > 0 and (resource_id is null or resource is not null))
);
select app.tenant_table('public.audit_holds', audit_as => 'audit_hold', deletable => false, why => 'what must stay in the audit log');
create index audit_holds_created_at_idx on public.audit_holds (tenant_id, created_at, id);
select app.system_access('public.audit_holds', '{select}', 'rows of the audit log that are on hold are not removed');

-- Whether a row is on hold, in the tenant that is set.
create function app.audit_row_is_held(l public.audit_log) returns boolean
language plpgsql stable as $$
begin
  return exists (select from public.audit_holds h where h.released_at is null
    and (h.resource is null or h.resource = l.resource)
    and (h.resource_id is null or h.resource_id = l.resource_id)
    and (h.subject is null or l.actor = h.subject or l.resource_id = h.subject
      or strpos(l.before::text, h.subject) > 0 or strpos(l.after::text, h.subject) > 0 or strpos(l.details::text, h.subject) > 0));
end $$;

-- Whether somebody is the subject of a legal hold, in the tenant that is set.
create function app.is_on_hold(subject text) returns boolean
language plpgsql stable as $$
begin
  return exists (select from public.audit_holds h where h.released_at is null and h.subject = is_on_hold.subject);
end $$;

-- What a row is evidence of, and so for how long it is kept:
--   evidence  of the log itself, of the tenant and of erasures: kept for as long as the tenant
--   security  of who got in and who may do what
--   access    of data that somebody has read or taken along
--   change    of anything else
create function app.audit_category(action text, resource text) returns text
language sql immutable parallel safe
return case
  when resource in ('audit_log', 'audit_hold', 'tenant', 'subject') then 'evidence'
  when action = 'core.exported' then 'access'
  when split_part(action, '.', 1) in ('identity', 'operators', 'core')
    or resource in ('access_review', 'access_review_item', 'api_key', 'grant', 'invitation', 'membership', 'role', 'role_permission',
      'route', 'service_account', 'session', 'tenant_flag', 'tenant_plan', 'tenant_setting', 'user', 'webhook') then 'security'
  when split_part(action, '.', -1) in ('downloaded', 'exported', 'read') then 'access'
  else 'change' end;

-- A range may be signed twice: piece by piece as its time was over, and as a whole when the tenant is erased.
alter table public.audit_prunings drop constraint audit_prunings_pkey, add primary key (tenant_id, log, first, last);

-- Removes the rows and the bytes of the entries of ranges, each of which is signed; `since` and `until` are the times of its first and last
-- row. Refused where an entry is not sealed, is on hold, or has no row in that time.
create function app.prune_audit(log int, first bigint[], last bigint[], since timestamptz[], until timestamptz[], note text[])
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
  tenant constant uuid := nullif(current_setting('app.tenant_id', true), '')::uuid;
  of_log public.audit_logs;
  range record;
  gone bigint;
  pruned bigint := 0;
begin
  select l.* into of_log from public.audit_logs l where l.tenant_id = tenant and l.log = prune_audit.log;
  for range in
    select r.*, of_log.first_seq + r.first - 1 as first_seq, of_log.first_seq + r.last - 1 as last_seq
    from unnest(prune_audit.first, prune_audit.last, prune_audit.since, prune_audit.until, prune_audit.note) r (first, last, since, until, note)
  loop
    if of_log.log is null or range.first < 1 or range.last < range.first or range.last >= of_log.size then
      raise exception 'prune_audit: entries % to % are not all sealed', range.first, range.last using errcode = 'insufficient_privilege';
    end if;
    if exists (select from public.audit_log l where l.tenant_id = tenant and l.at between range.since and range.until
        and l.seq between range.first_seq and range.last_seq and app.audit_row_is_held(l)) then
      raise exception 'prune_audit: entries % to % are on hold', range.first, range.last using errcode = 'insufficient_privilege';
    end if;
    insert into public.audit_prunings (tenant_id, log, first, last, note)
      values (tenant, of_log.log, range.first, range.last, range.note);
    update public.audit_entries e set entry = null
      where e.tenant_id = tenant and e.log = of_log.log and e.index between range.first and range.last;
    delete from public.audit_log l where l.tenant_id = tenant and l.at between range.since and range.until
      and l.seq between range.first_seq and range.last_seq;
    get diagnostics gone = row_count;
    if gone <> range.last - range.first + 1 then
      raise exception 'prune_audit: % of entries % to % have a row', gone, range.first, range.last using errcode = 'insufficient_privilege';
    end if;
    delete from public.audit_blocks b where b.tenant_id = tenant
      and b.block between (range.first_seq - 1) / 256 and (range.last_seq - 1) / 256
      and not exists (select from public.audit_log l where l.tenant_id = tenant and l.at between b.first_at and b.last_at
        and l.seq between 256 * b.block + 1 and 256 * b.block + 256);
    pruned := pruned + gone;
  end loop;
  return pruned;
end $$;

-- Said again, should a superuser run the migrations on the owner's behalf.
revoke execute on function app.audit_row_is_held(public.audit_log), app.is_on_hold(text), app.audit_category(text, text),
  app.prune_audit(int, bigint[], bigint[], timestamptz[], timestamptz[], text[]) from public;

do $$
begin
  execute format('grant execute on function app.audit_row_is_held(public.audit_log), app.is_on_hold(text), app.audit_category(text, text) to %I, %I',
    current_setting('app.runtime_role'), current_setting('app.system_role'));
  execute format('grant execute on function app.prune_audit(int, bigint[], bigint[], timestamptz[], timestamptz[], text[]) to %I', current_setting('app.system_role'));
end $$;
