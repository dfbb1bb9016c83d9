// TimescaleDB for tests: PGlite (PostgreSQL as WebAssembly, one backend) served to several PostgreSQL clients at once.
//
//   node server.mjs [--port 0] [--host 127.0.0.1] [--database postgres] [--password WORD] [--data FOLDER]
//                   [--idle-transaction-timeout MILLISECONDS] [--exit-with-stdin] [--debug]
//
// Prints `ready HOST:PORT` when it accepts connections. The packages are looked for in $TIMESCALEDB_WASM (install.sh
// prints the folder). With one backend there is no waiting for locks, no statement_timeout, no cancelling and no
// background worker (`CALL run_job` runs a policy); temporary tables, cursors, LISTEN and DISCARD ALL are everybody's;
// custom settings are kept where `SET my.name` set them; COPY FROM STDIN has to be the first statement of its query.
import { createServer } from 'node:net'
import { parseArgs } from 'node:util'
import { Backend } from './backend.mjs'
import { Connection } from './connection.mjs'
import { Turns } from './turns.mjs'

const { values: flags } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' },
    database: { type: 'string', default: 'postgres' },
    password: { type: 'string' },
    data: { type: 'string' },
    'idle-transaction-timeout': { type: 'string', default: '0' },
    'exit-with-stdin': { type: 'boolean', default: false },
    debug: { type: 'boolean', default: false },
  },
})

// Whoever holds the other end of stdin may be killed without a chance to stop this process.
if (flags['exit-with-stdin']) {
  process.stdin.on('end', () => process.exit(0))
  process.stdin.on('error', () => process.exit(0))
  process.stdin.resume()
}

const options = {
  database: flags.database,
  password: flags.password,
  idleTransactionTimeout: Number(flags['idle-transaction-timeout']),
}
const log = (...words) => flags.debug && console.error(new Date().toISOString(), ...words)

const backend = await Backend.start({ data: flags.data, database: flags.database })
const turns = new Turns(backend)
const server = createServer((socket) => new Connection(socket, backend, turns, options, log))
server.on('error', (failed) => {
  console.error(`cannot listen on ${flags.host}:${flags.port}: ${failed.message}`)
  process.exit(1)
})
server.listen(Number(flags.port), flags.host, () => console.log(`ready ${flags.host}:${server.address().port}`))

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, async () => {
    server.close()
    await backend.close().catch(() => {})
    process.exit(0)
  })
}
