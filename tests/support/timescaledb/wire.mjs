// PostgreSQL's wire protocol, version 3: as much of it as a server needs that hands whole messages on.

const TYPE_AND_LENGTH = 5

export const text = (string) => Buffer.from(`${string}\0`)

export function integers(...values) {
  const buffer = Buffer.alloc(4 * values.length)
  values.forEach((value, index) => buffer.writeInt32BE(value, 4 * index))
  return buffer
}

export function message(type, ...parts) {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(TYPE_AND_LENGTH)
  head.write(type, 0, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

export const query = (sql) => message('Q', text(sql))
export const sync = () => message('S')
export const flush = () => message('H')

export function error(severity, code, words) {
  return message('E', text(`S${severity}`), text(`V${severity}`), text(`C${code}`), text(`M${words}`), Buffer.from([0]))
}

export const typeOf = (frame) => String.fromCharCode(frame[0])

// The complete messages of a buffer that holds nothing but complete messages.
export function* frames(buffer) {
  for (let at = 0; at + TYPE_AND_LENGTH <= buffer.length; ) {
    const size = 1 + buffer.readInt32BE(at + 1)
    yield buffer.subarray(at, at + size)
    at += size
  }
}

// The zero-terminated strings of a message, from `at` on; `end` is where the last one's zero stands.
export function strings(frame, at, count) {
  const found = []
  let end = at - 1
  for (let i = 0; i < count; i++) {
    const start = end + 1
    end = frame.indexOf(0, start)
    found.push(frame.toString('utf8', start, end))
  }
  return { found, end }
}

// The rows of every statement of a reply, as text: one array for each statement that completed.
export function results(reply) {
  const complete = []
  let rows = []
  for (const frame of frames(reply)) {
    if (typeOf(frame) === 'D') rows.push(columns(frame))
    if (typeOf(frame) === 'C') {
      complete.push(rows)
      rows = []
    }
  }
  return complete
}

function columns(dataRow) {
  const values = []
  let at = 7
  for (let left = dataRow.readInt16BE(5); left > 0; left--) {
    const size = dataRow.readInt32BE(at)
    at += 4
    values.push(size < 0 ? null : dataRow.toString('utf8', at, at + size))
    at += Math.max(size, 0)
  }
  return values
}

// The first error of a reply, or null.
export function failure(reply) {
  for (const frame of frames(reply)) {
    if (typeOf(frame) !== 'E') continue
    const fields = {}
    for (let at = 5; frame[at] !== 0; ) {
      const { found, end } = strings(frame, at + 1, 1)
      fields[String.fromCharCode(frame[at])] = found[0]
      at = end + 1
    }
    return { code: fields.C, words: fields.M }
  }
  return null
}

// 'I' (idle), 'T' (in a transaction), 'E' (in a failed one), or null when the reply does not end a statement.
export function transactionStatus(reply) {
  let status = null
  for (const frame of frames(reply)) if (typeOf(frame) === 'Z') status = String.fromCharCode(frame[5])
  return status
}
