-- A review of access that the clock has begun is made by nobody.
alter table public.access_reviews alter column created_by drop not null;
