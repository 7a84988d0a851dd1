// Does to envelopes what a JavaScript peer of the overlay does, and says which of them would have ended its process.
// One envelope a line on stdin, one line of JSON for each on stdout: null, or the text of the error.
'use strict'

const http = require('http')
const readline = require('readline')
const { Duplex } = require('stream')
const url = require('url')

const own = Buffer.alloc(20, 7)

function id (value) {
  const bytes = Buffer.from(value, 'hex')
  if (bytes.length !== 20) throw new Error('an ID of ' + bytes.length + ' bytes')
  return bytes
}

// What the ws package and a browser ask of a URL; without an agent the request has no connection but ours.
function dial (address) {
  const modern = new URL(address)
  if (!/^wss?:$/.test(modern.protocol) || modern.hash) throw new SyntaxError(address)
  const legacy = url.parse(address)
  if (!legacy.host) throw new Error('invalid url')
  if (legacy.port !== null && !(legacy.port >= 1 && legacy.port <= 65535)) throw new RangeError(address)
  const createConnection = () => new Duplex({ read () {}, write (chunk, encoding, done) { done() } })
  const request = http.request({
    port: legacy.port || 80,
    host: legacy.hostname,
    path: legacy.path,
    headers: { Host: legacy.host },
    createConnection
  })
  request.on('error', () => {})
  request.destroy()
}

const receivers = {
  findPeers: data => id(data),
  foundPeers: data => { for (let i = 0; i < data.length; i++) id(data[i]) },
  'handshake-answer': data => { if (data !== null && data.ws) dial(data.ws) },
  signal: data => {
    if (!data.sdp && !data.candidate) throw new Error('signal() called with invalid signal data')
    const candidate = data.candidate
    if (candidate && candidate.sdpMid == null && candidate.sdpMLineIndex == null) throw new TypeError('no medium')
  }
}

function check (line) {
  const envelope = JSON.parse(line)
  const nonces = {}
  if (typeof envelope.nonce !== 'string') throw new TypeError('nonce')
  nonces[envelope.nonce] = true
  envelope.to = id(envelope.to)
  envelope.from = id(envelope.from)
  // Relays answer along the path.
  id(envelope.path[envelope.path.length - 1])
  const receiver = Object.prototype.hasOwnProperty.call(receivers, envelope.data.type) && receivers[envelope.data.type]
  if (receiver) receiver(envelope.data.data)
  envelope.path.push(own.toString('hex'))
  const text = JSON.stringify(envelope)
  const again = JSON.parse(text)
  if (again.path.length !== envelope.path.length) throw new Error('the path is no list')
  again.path.forEach(entry => id(entry))
}

readline.createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', line => {
  let problem = null
  try {
    // A line of its own in JSON, as envelopes may have line breaks between their members.
    check(JSON.parse(line))
  } catch (error) {
    problem = String(error)
  }
  process.stdout.write(JSON.stringify(problem) + '\n')
})
