-- A browser's session is led to by a cookie instead of a refresh token: of its text the hash is kept.

alter table public.sessions
  add column cookie_hash bytea check (octet_length(cookie_hash) = 32);
create unique index sessions_cookie on public.sessions (tenant_id, cookie_hash) where cookie_hash is not null;
