-- The two database roles and their rights, in the database this is run in. May be run again at any time.
--
-- The server runs it on its private cluster. On a PostgreSQL of your own, as a superuser:
--     createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 erp
--     psql -v ON_ERROR_STOP=1 -1 -d erp -f migrations/roles.sql
-- and then give both a password: \password erp_owner, \password erp_app.
--
--   erp_owner   owns the database and its tables; migrations only (DATABASE_OWNER_URL)
--   erp_app     owns nothing and is a member of nothing; everything else (DATABASE_URL)

DO $$
DECLARE
    role text;
    membership record;
BEGIN
    FOREACH role IN ARRAY ARRAY['erp_owner', 'erp_app'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- it is there, or another session has just made it: roles belong to the whole cluster
        END;
        -- Row level security does not bind a superuser or BYPASSRLS. Only a superuser may say NOSUPERUSER, so it is
        -- said where it is needed.
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = role
                   AND (NOT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls OR rolreplication)) THEN
            EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION', role);
        END IF;
    END LOOP;

    -- A member could act as the other role (SET ROLE), and so could own tables.
    FOR membership IN
        SELECT roleid::regrole AS role FROM pg_auth_members WHERE member = 'erp_app'::regrole
    LOOP
        EXECUTE format('REVOKE %s FROM erp_app', membership.role);
    END LOOP;

    -- Nobody gets in but these two; and erp_app gets no TEMPORARY: a temporary table would shadow a tenant's table.
    EXECUTE format('ALTER DATABASE %I OWNER TO erp_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, erp_app', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO erp_owner, erp_app', current_database());
END
$$;

ALTER SCHEMA public OWNER TO erp_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC, erp_app;
GRANT USAGE ON SCHEMA public TO erp_app;
