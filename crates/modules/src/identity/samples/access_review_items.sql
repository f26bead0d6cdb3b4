insert into public.access_review_items (id, review_id, grant_id, principal_id, role, is_owner, granted_at)
values ('00000000-0000-7000-8000-00000000cb33', '00000000-0000-7000-8000-00000000cb32', '00000000-0000-7000-8000-00000000cb07',
  '00000000-0000-7000-8000-00000000ca01', 'canary', false, now());
