insert into public.webhooks (id, url, events) values ('00000000-0000-7000-8000-00000000ca31', 'https://canary.example', '{canary.sang}');
