-- A session can be an operator's in a person's place. Then it says whose, of which session of the operator's, and why.
-- Assumes 0005_sessions.

alter table public.sessions
  add column operator_id uuid,
  add column operator_session uuid,
  add column operator_reason text check (length(operator_reason) between 1 and 500),
  add constraint sessions_operator check (
    (operator_id is null) = (operator_session is null) and (operator_id is null) = (operator_reason is null));
create index sessions_operator_session on public.sessions (operator_session) where operator_session is not null and revoked_at is null;
