-- The operator's role in one database, with no more than it needs. As a superuser, or whoever may create roles, in the
-- database:
--
--   psql "$PGURL" -v role=factory_policies -v password=change-me -v owner=factory -f sql/role.sql
--
-- TimescaleDB lets only the owner of a table convert it, and change its policies. So the role is a member of the role that
-- owns the tables (`owner`), and acts as it: aggregates that the operator creates belong to the owner too, who can go on
-- using them. The owner needs LOGIN, because policies run as the owner; without a password nobody logs in as it. In the
-- schemas where the operator is to create aggregates the owner needs CREATE, which whoever created the tables there has.
--
-- Run it again for a new password, or in another database. Where tables belong to several roles, run it for one of them,
-- and then, so that what the operator creates belongs to the operator, which the owners have to be granted:
--
--   GRANT another_owner TO factory_policies;
--   ALTER ROLE factory_policies IN DATABASE factory RESET role;
\set ON_ERROR_STOP on
BEGIN;
SELECT set_config('role_sql.role', :'role', true), set_config('role_sql.owner', :'owner', true) \g /dev/null
DO $$
DECLARE
    role text := current_setting('role_sql.role');
    owner text := current_setting('role_sql.owner');
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = owner) THEN
        RAISE EXCEPTION 'role % does not exist; owner is the role that owns the tables', owner;
    END IF;
    IF NOT (SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = owner) THEN
        RAISE EXCEPTION 'role % has no LOGIN, which TimescaleDB wants of the owner of a table with policies', owner
            USING HINT = format('ALTER ROLE %I LOGIN', owner);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', role);
    END IF;
END $$;
ALTER ROLE :"role" LOGIN PASSWORD :'password';
GRANT :"owner" TO :"role";
ALTER ROLE :"role" IN DATABASE :"DBNAME" SET role = :'owner';
GRANT CONNECT ON DATABASE :"DBNAME" TO :"role";
-- The server reads queries and predicates of resources in temporary objects, which are rolled back.
GRANT TEMPORARY ON DATABASE :"DBNAME" TO :"owner";
COMMIT;
