-- The three database roles and their rights, in the database this is run in. May be run again at any time.
--
-- The server runs it on its private cluster. On a PostgreSQL of your own, as a superuser, or as a role with CREATEROLE and
-- CREATEDB that has made the database itself (on PostgreSQL 14 it must own the schema public, too):
--     createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 erp
--     psql -v ON_ERROR_STOP=1 -1 -d erp -f migrations/roles.sql
-- and then give each a password: \password erp_owner, \password erp_app, \password erp_system.
--
--   erp_owner   owns the database and its tables; migrations only (DATABASE_OWNER_URL)
--   erp_app     owns nothing and is a member of nothing; serves requests (DATABASE_URL)
--   erp_system  owns nothing and is a member of nothing; the declared work of the system, such as sign-in
--               (DATABASE_SYSTEM_URL)

DO $$
DECLARE
    role text;
    membership record;
    me constant pg_roles := (SELECT r FROM pg_roles r WHERE rolname = current_user);
    joined boolean := false;
BEGIN
    FOREACH role IN ARRAY ARRAY['erp_owner', 'erp_app', 'erp_system'] LOOP
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

    -- A role that is no superuser gives something away only to a role that it could act as: for as long as this takes.
    IF NOT me.rolsuper THEN
        joined := NOT EXISTS (SELECT FROM pg_auth_members
                              WHERE roleid = 'erp_owner'::regrole AND member = me.oid AND NOT admin_option);
        EXECUTE format('GRANT erp_owner TO %I', current_user);
        IF NOT me.rolcreatedb OR NOT EXISTS (
                SELECT FROM pg_database WHERE datname = current_database() AND pg_has_role(datdba, 'USAGE')) THEN
            RAISE EXCEPTION 'role % cannot give database % away', current_user, current_database()
                USING HINT = 'run this as a superuser; or give the role CREATEDB, and let it make the database';
        END IF;
        IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public' AND pg_has_role(nspowner, 'USAGE')) THEN
            RAISE EXCEPTION 'role % does not own the schema public', current_user
                USING HINT = format('as a superuser, in this database: ALTER SCHEMA public OWNER TO %I', current_user);
        END IF;
    END IF;

    -- A member could act as the other role (SET ROLE), and so could own tables.
    FOR membership IN
        SELECT roleid::regrole AS role, member::regrole FROM pg_auth_members
        WHERE member IN ('erp_app'::regrole, 'erp_system'::regrole)
    LOOP
        EXECUTE format('REVOKE %s FROM %s', membership.role, membership.member);
    END LOOP;

    -- Nobody gets in but these three; and neither login gets TEMPORARY: a temporary table would shadow a tenant's table.
    EXECUTE format('ALTER DATABASE %I OWNER TO erp_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC, erp_app, erp_system', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO erp_owner, erp_app, erp_system', current_database());
    ALTER SCHEMA public OWNER TO erp_owner;
    REVOKE ALL ON SCHEMA public FROM PUBLIC, erp_app, erp_system;
    GRANT USAGE ON SCHEMA public TO erp_app, erp_system;

    IF joined THEN
        EXECUTE format('REVOKE erp_owner FROM %I', current_user);
    END IF;
END
$$;
