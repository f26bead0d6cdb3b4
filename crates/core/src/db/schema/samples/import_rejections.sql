insert into public.import_rejections (job, number, line, errors) values ('00000000-0000-7000-8000-00000000ca31', 1, '', '[]');
