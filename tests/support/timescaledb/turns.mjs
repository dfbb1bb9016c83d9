// Who talks to the backend. A turn is one piece of a connection's work; inside a transaction the next turn is the same
// connection's. Settings, role and session user belong to the connection: they are put in place when the turn changes.
import { CONNECTION_SETTING } from './advisory-locks.mjs'
import { identifier, literal, setConfig } from './backend.mjs'

const SETTINGS_OF_THE_SESSION = `SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
  UNION ALL SELECT 'role', pg_catalog.current_setting('role')`
const ORDINARY = 'SELECT FROM pg_catalog.pg_settings s WHERE lower(s.name) = custom.name'
const settingsOf = (connection) => {
  const names = [...connection.customSettings].map((name) => `(${literal(name)})`)
  if (!names.length) return SETTINGS_OF_THE_SESSION
  return `${SETTINGS_OF_THE_SESSION}
    UNION ALL SELECT custom.name, pg_catalog.current_setting(custom.name, true) FROM (VALUES ${names.join(', ')}) custom (name)
    WHERE pg_catalog.current_setting(custom.name, true) <> '' AND NOT EXISTS (${ORDINARY})`
}

export class Turns {
  #backend
  #waiting = []
  #owner = null
  #session = null // the connection whose settings the backend has
  #serving = false

  constructor(backend) {
    this.#backend = backend
  }

  request(connection) {
    if (!this.#waiting.includes(connection)) this.#waiting.push(connection)
    this.#serve()
  }

  async #serve() {
    if (this.#serving) return
    this.#serving = true
    for (let next = this.#next(); next; next = this.#next()) {
      if (await this.#enter(next)) await next.takeTurn()
      this.#owner = next.holdsTurn ? next : null
    }
    this.#serving = false
  }

  #next() {
    const index = this.#owner ? this.#waiting.indexOf(this.#owner) : 0
    return index < 0 ? undefined : this.#waiting.splice(index, 1)[0]
  }

  // Puts the connection's settings in place, in one exchange. False when the connection was refused for them.
  async #enter(connection) {
    const previous = this.#session
    if (previous === connection || connection.closed) return true
    const save = previous?.settingsMayDiffer && !previous.closed
    const sql = [
      ...(save ? [settingsOf(previous)] : []),
      'RESET ALL',
      `SET SESSION AUTHORIZATION ${identifier(connection.user)}`,
      `SELECT ${[...connection.settings, [CONNECTION_SETTING, connection.id]].map(setConfig).join(', ')}`,
    ]
    try {
      const [saved] = await this.#backend.query(sql.join('; '))
      if (save) previous.keepSettings(saved)
      this.#session = connection
      return true
    } catch (failure) {
      connection.refuse(failure) // the exchange was one transaction: the previous settings are still in place
      return false
    }
  }
}
