import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'

test('it is smaller than 4 KB', (t) => {
  const dist = new URL('../../dist/', import.meta.url)
  const files = readdirSync(dist).filter((name) => name.endsWith('.js'))
  assert.ok(files.includes('index.js'))
  const all = Buffer.concat(files.map((name) => readFileSync(new URL(name, dist))))
  const size = gzipSync(all, { level: 9 }).length
  t.diagnostic(`${size} bytes, compressed`)
  assert.ok(size < 4096, `${size} bytes`)
})
