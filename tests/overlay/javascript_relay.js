// What a JavaScript relay does to an envelope: one JSON document a line in, parsed, written anew.
require('readline').createInterface({ input: process.stdin }).on('line', function (line) {
  const envelope = JSON.parse(line)
  envelope.to = Buffer.from(envelope.to, 'hex')
  envelope.from = Buffer.from(envelope.from, 'hex')
  envelope.path.push('00000000000000000000000000000000000000ff')
  process.stdout.write(JSON.stringify(envelope) + '\n')
})
