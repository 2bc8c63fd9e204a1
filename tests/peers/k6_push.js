// Pushes streams of samples; only the first sample of a stream says its source. Counts what it sent and was told.

import exec from 'k6/execution'
import { Counter } from 'k6/metrics'
import { Client, Stream } from 'k6/net/grpc'

export const options = {
  discardResponseBodies: true,
  scenarios: {
    push: {
      executor: 'per-vu-iterations',
      vus: Number(__ENV.USERS),
      iterations: Number(__ENV.STREAMS_EACH),
      maxDuration: '60s',
    },
  },
}

const SAMPLES = Number(__ENV.SAMPLES)
const sent = new Counter('sent')
const receipts = new Counter('receipts')
const acknowledged = new Counter('acknowledged')
const failures = new Counter('failures')

const client = new Client()
client.load([__ENV.PROTOS], 'shop.proto')
let connected = false

export default function () {
  if (!connected) {
    client.connect(__ENV.GATEWAY, { plaintext: true })
    connected = true
  }
  const stream = new Stream(client, 'shop.v1.Telemetry/Push')
  stream.on('data', (receipt) => {
    receipts.add(1)
    // A count of 0 is not said on the wire.
    acknowledged.add(receipt.samples || 0)
  })
  stream.on('error', (error) => {
    console.error(JSON.stringify(error))
    failures.add(1)
  })
  const source = `k6-${exec.vu.idInTest}-${exec.vu.iterationInScenario}`
  for (let seq = 0; seq < SAMPLES; seq++) {
    const text = 'x'.repeat(seq % 200)
    stream.write(seq === 0 ? { source, seq, text } : { seq, text })
    sent.add(1)
  }
  stream.end()
}

export function handleSummary(data) {
  const count = (name) => (data.metrics[name] ? data.metrics[name].values.count : 0)
  const told = { sent: 0, receipts: 0, acknowledged: 0, failures: 0 }
  for (const name in told) told[name] = count(name)
  return { stdout: JSON.stringify(told) + '\n' }
}
