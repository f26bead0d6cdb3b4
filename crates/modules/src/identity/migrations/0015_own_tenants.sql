-- A person sees in which tenants it is a member, and goes from one to the other.
select app.system_access('public.memberships', '{select,insert,update}',
  'sign-in finds out who belongs to the tenant that is named; members are made, paused and removed; people see which tenants they belong to',
  across => true);
