insert into public.files (id, kind, name, media_type, bytes, sha256)
values ('00000000-0000-7000-8000-00000000ca30', 'canary.song', 'song.txt', 'text/plain', 4, repeat('0', 64));
