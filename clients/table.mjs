// Prints what the requests of a client's turn cost, from the server's log: a line
// for each request that had an answer. Ends with 1 when the turn had none, or
// when it is a later one and had too little of its prompts cached.
//
//   node table.mjs LOG CLIENT TURN SECONDS
import { readFileSync } from 'node:fs'

const leastCached = 0.96
const [log, client, turn, seconds] = process.argv.slice(2)

const answers = readFileSync(log, 'utf8').split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line))
  .filter(line => line.prompt > 0 && line.status === 200 && line.method === 'POST')

for (const a of answers) {
  const share = (100 * a.cached / a.prompt).toFixed(1) + ' %'
  console.log([client.padEnd(9), turn.padEnd(5), String(a.prompt).padStart(8), String(a.cached).padStart(8), share.padStart(7),
    (a.total_ms / 1000).toFixed(1).padStart(8), ' ' + (a.agent ?? '')].join(' '))
}
const sum = (key) => answers.reduce((n, a) => n + a[key], 0)
const enough = turn === '1' || sum('cached') >= leastCached * sum('prompt')
process.exit(answers.length > 0 && enough ? 0 : 1)
