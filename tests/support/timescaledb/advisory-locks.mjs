// Advisory locks between connections that share one backend.
//
// PostgreSQL gives a backend every lock that it holds already, so here all connections would get the same one. These
// functions take PostgreSQL's own, with the connection's number as the second key: the first key (a hash of what the
// client locks) tells who else has it. Nothing can wait in a server with one backend: where PostgreSQL would wait,
// these fail at once as a lock timeout does.

// The setting that tells the functions whose turn it is.
export const CONNECTION_SETTING = 'test_server.connection'

const SIGNATURES = [
  { parameters: 'key bigint', types: 'bigint', name: `'one ' || key` },
  { parameters: 'key1 integer, key2 integer', types: 'integer, integer', name: `'two ' || key1 || ' ' || key2` },
]

export function advisoryLocks() {
  const functions = []
  for (const signature of SIGNATURES) {
    for (const mode of ['', '_shared']) {
      for (const scope of ['', '_xact']) {
        functions.push(...locking(signature, scope, mode))
      }
      functions.push(replacement(`pg_advisory_unlock${mode}`, signature, 'boolean', (call) => `RETURN ${call};`))
    }
  }
  return [MAKE_ROOM, SHARED, ...functions].join('\n')
}

// Makes a connection let go of what it holds, as the end of its session would.
export const release = (connection) => `SELECT pg_catalog.test_server_release(${connection})`

function locking(signature, scope, mode) {
  const blocked = `pg_catalog.test_server_blocked(pg_catalog.hashtext(${signature.name}), ${mode === ''})`
  return [
    replacement(`pg_try_advisory${scope}_lock${mode}`, signature, 'boolean', (call) => `RETURN NOT ${blocked} AND ${call};`),
    replacement(`pg_advisory${scope}_lock${mode}`, signature, 'void', (call) => `
      IF ${blocked} THEN
        RAISE EXCEPTION 'canceling statement due to lock timeout'
          USING ERRCODE = 'lock_not_available', DETAIL = 'Another connection holds the lock, and this server cannot wait.';
      END IF;
      PERFORM ${call};`),
  ]
}

function replacement(name, signature, returns, body) {
  const call = `pg_catalog.backend_${name}(pg_catalog.hashtext(${signature.name}), pg_catalog.test_server_connection())`
  return `CREATE OR REPLACE FUNCTION pg_catalog.${name}(${signature.parameters}) RETURNS ${returns} STRICT LANGUAGE plpgsql
    AS $body$ BEGIN ${body(call)} END $body$;`
}

// PostgreSQL finds built-in functions by number: they have to make room for others of their name.
const MAKE_ROOM = `DO $do$
  DECLARE builtin record;
  BEGIN
    FOR builtin IN SELECT oid::regprocedure AS signature, proname FROM pg_proc
      WHERE proname ~ '^pg_(try_)?advisory_' AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'internal')
    LOOP
      EXECUTE format('ALTER FUNCTION %s RENAME TO %I', builtin.signature, 'backend_' || builtin.proname);
    END LOOP;
  END $do$;`

const SHARED = `
  CREATE OR REPLACE FUNCTION pg_catalog.test_server_connection() RETURNS integer LANGUAGE sql
    AS $body$ SELECT coalesce(nullif(pg_catalog.current_setting('${CONNECTION_SETTING}', true), ''), '0')::integer $body$;

  CREATE OR REPLACE FUNCTION pg_catalog.test_server_blocked(key integer, exclusive boolean) RETURNS boolean LANGUAGE sql
    AS $body$
      SELECT EXISTS (SELECT FROM pg_catalog.pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND classid = (key::bigint & 4294967295)::oid
          AND objid <> pg_catalog.test_server_connection()::oid AND (exclusive OR mode = 'ExclusiveLock'))
    $body$;

  CREATE OR REPLACE FUNCTION pg_catalog.test_server_release(connection integer) RETURNS void LANGUAGE plpgsql
    SET client_min_messages = error -- the last unlock of each finds nothing left
    AS $body$
      DECLARE held record; key integer;
      BEGIN
        FOR held IN SELECT classid::bigint AS key, mode FROM pg_catalog.pg_locks
          WHERE locktype = 'advisory' AND objsubid = 2 AND objid = connection::oid
        LOOP
          key := CASE WHEN held.key > 2147483647 THEN held.key - 4294967296 ELSE held.key END;
          LOOP -- a lock taken twice is held until it is released twice
            EXIT WHEN NOT CASE held.mode
              WHEN 'ExclusiveLock' THEN pg_catalog.backend_pg_advisory_unlock(key, connection)
              ELSE pg_catalog.backend_pg_advisory_unlock_shared(key, connection) END;
          END LOOP;
        END LOOP;
      END
    $body$;

  CREATE OR REPLACE FUNCTION pg_catalog.pg_advisory_unlock_all() RETURNS void LANGUAGE sql
    AS $body$ SELECT pg_catalog.test_server_release(pg_catalog.test_server_connection()) $body$;`
