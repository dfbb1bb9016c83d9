// One client: its side of the protocol, and what of it reaches the backend, in which order.
import { CONNECTION_SETTING, release } from './advisory-locks.mjs'
import { Failure, identifier, ORDINARY_SETTINGS, setConfig } from './backend.mjs'
import { error, frames, integers, message, query, strings, sync, text, transactionStatus, typeOf } from './wire.mjs'

const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102

// What PostgreSQL tells every client unasked.
const REPORTED = [
  'server_version', 'server_encoding', 'client_encoding', 'DateStyle', 'IntervalStyle', 'TimeZone', 'integer_datetimes',
  'standard_conforming_strings', 'is_superuser', 'in_hot_standby', 'application_name', 'session_authorization',
]

const NOT_SETTINGS = new Set(['user', 'database', 'options', 'replication'])

const COPY_FROM_STDIN = /^(\s*copy\s[\s\S]*\sfrom\s+)stdin\b/i
// Fails in this build at its last step, with XX000 "tuple concurrently updated", and leaves pg_index corrupt: the index is
// built in one transaction instead. A native server takes the option as it is.
const TRANSACTION_PER_CHUNK = /\bwith\s*\(\s*timescaledb\.transaction_per_chunk\s*\)/i
const MAY_CHANGE_SETTINGS = /\b(set|reset|discard|set_config|call|do|execute)\b/i
// The view of settings does not list these.
const CUSTOM_SETTING = /\bset\s+(?:(?:session|local)\s+)?(\w+\.\w+)\s*(?:=|to\b)/gi
const IS = 'OPERATOR(pg_catalog.=)' // the connection may have asked for any search path
const SETTINGS_OF_THE_ROLE = `SELECT setting FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) setting
  WHERE setrole ${IS} (SELECT oid FROM pg_catalog.pg_roles WHERE rolname ${IS} session_user)
  AND (setdatabase ${IS} 0 OR setdatabase ${IS} (
    SELECT oid FROM pg_catalog.pg_database WHERE datname ${IS} pg_catalog.current_database()
  )) ORDER BY setdatabase USING OPERATOR(pg_catalog.<)`
const RESETS = /\b(reset|discard)\b|\bsession\s+authorization\s+default\b/i

let connections = 0

export class Connection {
  id = ++connections
  user = 'postgres'
  settings = [...ORDINARY_SETTINGS] // as this connection left them, while another has its turn
  settingsMayDiffer = false
  customSettings = new Set() // the names of those that it has set
  closed = false

  #socket
  #backend
  #turns
  #options
  #log

  #received = Buffer.alloc(0)
  #phase = 'startup' // then 'password', then 'open'
  #startupSettings = []
  #work = [] // functions, one for each turn
  #batch = emptyBatch() // messages that go to the backend together: up to Query, Sync, Flush or FunctionCall
  #statements = new Map() // what to know of each prepared statement, by the client's name for it
  #copy = null // a COPY FROM STDIN whose data the client is sending
  #skipSync = false
  #midway = false // the backend waits for more of the same request
  #status = 'I'
  #idleTimer

  constructor(socket, backend, turns, options, log) {
    this.#socket = socket
    this.#backend = backend
    this.#turns = turns
    this.#options = options
    this.#log = (...words) => log(`#${this.id}`, ...words)
    socket.setNoDelay(true)
    socket.on('data', (bytes) => this.#receive(bytes))
    socket.on('error', () => {}) // 'close' follows
    socket.on('close', () => this.#close())
  }

  // ---- what Turns asks

  get holdsTurn() {
    return this.#status !== 'I' || this.#midway // also when closed: its transaction ends in a turn of its own
  }

  async takeTurn() {
    clearTimeout(this.#idleTimer)
    const work = this.#work.shift()
    try {
      if (work) await work()
    } catch (failure) {
      this.refuse(failure)
    }
    if (this.#work.length) this.#turns.request(this)
    else if (this.holdsTurn) this.#limitIdleTime()
  }

  keepSettings(settings) {
    this.settings = settings
    this.settingsMayDiffer = false
  }

  refuse(failure) {
    if (!(failure instanceof Failure)) console.error(failure)
    const code = /^role .* does not exist$/.test(failure.message) ? '28000' : (failure.code ?? 'XX000')
    this.#end(error('FATAL', code, failure.message))
  }

  // ---- from the client

  #receive(bytes) {
    this.#received = this.#received.length ? Buffer.concat([this.#received, bytes]) : bytes
    for (let frame = this.#nextFrame(); frame && !this.closed; frame = this.#nextFrame()) {
      if (this.#phase === 'startup') this.#startup(frame)
      else if (this.#phase === 'password') this.#password(frame)
      else if (this.#copy) this.#copyData(frame)
      else this.#request(frame)
    }
  }

  #nextFrame() {
    const lengthAt = this.#phase === 'startup' ? 0 : 1 // only the first message has no type
    if (this.#received.length < lengthAt + 4) return null
    const size = lengthAt + this.#received.readInt32BE(lengthAt)
    if (this.#received.length < size) return null
    const frame = this.#received.subarray(0, size)
    this.#received = this.#received.subarray(size)
    return frame
  }

  #startup(frame) {
    const code = frame.readInt32BE(4)
    if (code === SSL_REQUEST || code === GSS_REQUEST) return this.#send(Buffer.from('N'))
    if (code === CANCEL_REQUEST) return this.#end() // the backend cannot be interrupted
    if (code >>> 16 !== 3) return this.#end(error('FATAL', '0A000', 'unsupported frontend protocol'))

    const words = frame.toString('utf8', 8).split('\0')
    const parameters = new Map()
    for (let i = 0; i + 1 < words.length && words[i]; i += 2) parameters.set(words[i], words[i + 1])
    this.#log('connects', Object.fromEntries(parameters))
    this.user = parameters.get('user') ?? 'postgres'
    const database = parameters.get('database') ?? this.user
    if (database !== this.#options.database) return this.#end(error('FATAL', '3D000', `database "${database}" does not exist`))
    this.#startupSettings = [
      ...ORDINARY_SETTINGS,
      ...settingsOfOptions(parameters.get('options') ?? ''),
      ...[...parameters].filter(([name]) => !NOT_SETTINGS.has(name) && !name.startsWith('_pq_.')),
    ]
    this.settings = [...this.#startupSettings]

    if (this.#options.password === undefined) return this.#open()
    this.#phase = 'password'
    this.#send(message('R', integers(3))) // in clear text
  }

  #password(frame) {
    const given = typeOf(frame) === 'p' && strings(frame, 5, 1).found[0]
    if (given === this.#options.password) return this.#open()
    this.#end(error('FATAL', '28P01', `password authentication failed for user "${this.user}"`))
  }

  #open() {
    this.#phase = 'open'
    this.#enqueue(() => this.#welcome())
  }

  async #welcome() {
    await this.#takeSettingsOfRole()
    const values = REPORTED.map((name) => `current_setting('${name}', true)`)
    const [[row]] = await this.#backend.query(`SELECT ${values.join(', ')}`)
    const parameters = REPORTED.map((name, index) => message('S', text(name), text(row[index] ?? '')))
    const cancelKey = message('K', integers(100000 + this.id, 0))
    this.#send(Buffer.concat([message('R', integers(0)), ...parameters, cancelKey, message('Z', Buffer.from('I'))]))
  }

  // What `ALTER ROLE … SET` says, where the client did not say otherwise.
  async #takeSettingsOfRole() {
    const [rows] = await this.#backend.query(SETTINGS_OF_THE_ROLE)
    const asked = new Set(this.#startupSettings.slice(ORDINARY_SETTINGS.length).map(([name]) => name.toLowerCase()))
    const settings = rows
      .map(([setting]) => [setting.slice(0, setting.indexOf('=')), setting.slice(setting.indexOf('=') + 1)])
      .filter(([name]) => !asked.has(name.toLowerCase()))
    if (!settings.length) return
    this.#startupSettings.push(...settings)
    this.settings = [...this.#startupSettings]
    await this.#backend.query(`SELECT ${settings.map(setConfig).join(', ')}`)
  }

  #request(frame) {
    const type = typeOf(frame)
    if (type === 'X') return this.#end()
    if (type === 'S' && this.#skipSync) return void (this.#skipSync = false)
    const copies = this.#addToBatch(type, frame)
    if (copies) this.#beginCopy(type === 'E')
    else if ('QSHF'.includes(type)) this.#dispatch(type === 'H')
  }

  // Adds a message, with the names in it made this connection's own: every tokio-postgres client calls its first
  // statement s0. True when the message starts a COPY FROM STDIN.
  #addToBatch(type, frame) {
    const batch = this.#batch
    const own = (name) => text(name && `c${this.id}_${name}`)
    switch (type) {
      case 'Q': {
        const statement = describe(strings(frame, 5, 1).found[0])
        noteEffects(batch, statement)
        batch.messages.push(query(statement.sql))
        return statement.copies
      }
      case 'P': {
        const { found: [name, sql], end } = strings(frame, 5, 2)
        const statement = describe(sql)
        this.#statements.set(name, statement)
        batch.messages.push(message('P', own(name), text(statement.sql), frame.subarray(end + 1)))
        return false
      }
      case 'B': {
        const { found: [portal, name], end } = strings(frame, 5, 2)
        batch.bound = this.#statements.get(name)
        if (batch.bound) noteEffects(batch, batch.bound)
        batch.messages.push(message('B', own(portal), own(name), frame.subarray(end + 1)))
        return false
      }
      case 'D':
      case 'C': {
        const { found: [name] } = strings(frame, 6, 1)
        if (type === 'C' && frame[5] === 0x53) this.#statements.delete(name)
        batch.messages.push(message(type, frame.subarray(5, 6), own(name)))
        return false
      }
      case 'E': {
        const { found: [portal], end } = strings(frame, 5, 1)
        batch.messages.push(message('E', own(portal), frame.subarray(end + 1)))
        return batch.bound?.copies ?? false
      }
      default:
        batch.messages.push(frame)
        return false
    }
  }

  #dispatch(endsInFlush) {
    const batch = this.#takeBatch()
    this.#enqueue(async () => {
      const reply = await this.#run(batch)
      if (endsInFlush && transactionStatus(reply) === null) this.#midway = true
      this.#send(reply)
    })
  }

  #takeBatch() {
    const batch = this.#batch
    this.#batch = emptyBatch()
    return batch
  }

  async #run(batch) {
    const reply = await this.#backend.send(Buffer.concat(batch.messages))
    this.#status = transactionStatus(reply) ?? this.#status
    this.#midway = false
    this.settingsMayDiffer ||= batch.mayChangeSettings
    for (const name of batch.customSettings) this.customSettings.add(name)
    // The backend resets to what it was started with, a server of its own would to what the connection was.
    if (batch.resets && this.#status !== 'E') await this.#restoreStartupSettings()
    return reply
  }

  async #restoreStartupSettings() {
    const [sessionUser] = (await this.#backend.query('SELECT session_user'))[0]
    if (sessionUser[0] !== this.user) await this.#backend.query(`SET SESSION AUTHORIZATION ${identifier(this.user)}`)
    const reset = `SELECT name FROM pg_catalog.pg_settings WHERE source <> 'session'`
    const isReset = new Set((await this.#backend.query(reset))[0].map(([name]) => name.toLowerCase()))
    const settings = this.#startupSettings.filter(([name]) => isReset.has(name.toLowerCase()))
    await this.#backend.query(`SELECT ${[...settings, [CONNECTION_SETTING, this.id]].map(setConfig).join(', ')}`)
  }

  // ---- COPY FROM STDIN: collected here, read by the backend as a file

  #beginCopy(extended) {
    const batch = this.#takeBatch()
    const before = extended ? batch.messages.map(typeOf).filter((type) => type === 'P' || type === 'B') : []
    if (extended) batch.messages.push(sync())
    this.#copy = { batch, chunks: [], extended }
    this.#enqueue(async () => {
      this.#midway = true
      const completed = before.map((type) => message(type === 'P' ? '1' : '2'))
      this.#send(Buffer.concat([...completed, message('G', Buffer.from([0, 0, 0]))]))
    })
  }

  #copyData(frame) {
    const type = typeOf(frame)
    if (type === 'X') return this.#end()
    if (type === 'd') this.#copy.chunks.push(Buffer.from(frame.subarray(5)))
    if (type === 'c') this.#endCopy((copy) => this.#finishCopy(copy))
    if (type === 'f') this.#endCopy(() => this.#failCopy(strings(frame, 5, 1).found[0]))
  }

  #endCopy(work) {
    const copy = this.#copy
    this.#copy = null
    this.#skipSync = copy.extended // the batch has one already
    this.#enqueue(() => work(copy))
  }

  async #finishCopy({ batch, chunks }) {
    const reply = await this.#backend.withBlob(chunks, () => this.#run(batch))
    const told = (frame) => '12'.includes(typeOf(frame))
    this.#send(Buffer.concat([...frames(reply)].filter((frame) => !told(frame))))
  }

  #failCopy(reason) {
    this.#midway = false
    const words = `COPY from stdin failed: ${reason}`
    this.#send(Buffer.concat([error('ERROR', '57014', words), message('Z', Buffer.from(this.#status))]))
  }

  // ---- to the client, and the end

  #send(bytes) {
    if (!this.closed && this.#socket.writable && bytes.length) this.#socket.write(bytes)
  }

  #end(bytes = Buffer.alloc(0)) {
    this.#send(bytes)
    this.#socket.end()
    this.#close()
  }

  #enqueue(work) {
    this.#work.push(work)
    this.#turns.request(this)
  }

  #limitIdleTime() {
    const limit = this.#options.idleTransactionTimeout
    if (!limit) return
    this.#idleTimer = setTimeout(() => {
      this.#end(error('FATAL', '25P03', 'terminating connection due to idle-in-transaction timeout'))
    }, limit)
  }

  #close() {
    if (this.closed) return
    this.closed = true
    clearTimeout(this.#idleTimer)
    this.#log('closes')
    this.#work = []
    if (this.#phase === 'open') this.#enqueue(() => this.#cleanUp())
  }

  // What the end of a session does in a server that has one for each connection.
  async #cleanUp() {
    if (this.#status !== 'I' || this.#midway) {
      await this.#backend.send(sync())
      await this.#backend.send(query('ROLLBACK'))
      this.#status = 'I'
      this.#midway = false
    }
    const names = [...this.#statements.keys()].filter((name) => name)
    const closes = names.map((name) => message('C', Buffer.from('S'), text(`c${this.id}_${name}`)))
    if (closes.length) await this.#backend.send(Buffer.concat([...closes, sync()]))
    await this.#backend.query(release(this.id))
  }
}

function emptyBatch() {
  return { messages: [], mayChangeSettings: false, customSettings: [], resets: false, bound: null }
}

function noteEffects(batch, statement) {
  batch.mayChangeSettings ||= statement.mayChangeSettings
  batch.customSettings.push(...statement.customSettings)
  batch.resets ||= statement.resets
}

function describe(sql) {
  const copies = COPY_FROM_STDIN.test(sql)
  const possible = sql.replace(TRANSACTION_PER_CHUNK, '')
  return {
    sql: copies ? possible.replace(COPY_FROM_STDIN, "$1'/dev/blob'") : possible,
    copies,
    mayChangeSettings: MAY_CHANGE_SETTINGS.test(sql),
    customSettings: [...sql.matchAll(CUSTOM_SETTING)].map(([, name]) => name.toLowerCase()),
    resets: RESETS.test(sql),
  }
}

// `-c name=value`, `-cname=value` and `--name=value`, with backslashes before spaces, as in the startup message.
function settingsOfOptions(options) {
  const words = (options.match(/(?:\\.|[^\s\\])+/g) ?? []).map((word) => word.replaceAll(/\\(.)/g, '$1'))
  const settings = []
  for (let i = 0; i < words.length; i++) {
    const assignment = words[i] === '-c' ? words[++i] : words[i].replace(/^(-c|--)/, '')
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(assignment ?? '') ?? []
    if (name) settings.push([name.replaceAll('-', '_'), value])
  }
  return settings
}
