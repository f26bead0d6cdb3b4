-- Members are counted, but for those who are paused: a plan can say how many there may be.
select app.metered('public.memberships', 'identity.members', 'ended_at is null and deactivated_at is null');
