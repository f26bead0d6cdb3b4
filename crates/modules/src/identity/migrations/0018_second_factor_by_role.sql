-- A role of a tenant's own can demand a second factor in each session of the people who hold it.

alter table public.roles add column demands_factor boolean not null default false;
