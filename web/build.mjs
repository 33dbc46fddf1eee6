// Makes static/ from src/, clients/js and node_modules. What is made is committed:
// the program is built without Node. With a folder as its argument, it makes it
// there; the test compares.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const here = dirname(fileURLToPath(import.meta.url))
const out = resolve(process.argv[2] ?? join(here, 'static'))
const client = join(here, '../clients/js')

execFileSync('npm', ['run', '--silent', 'build'], { cwd: client, stdio: 'inherit' })

rmSync(out, { recursive: true, force: true })
cpSync(join(here, 'src'), out, { recursive: true, filter: (from) => !from.endsWith('.ts') })
mkdirSync(join(out, 'client'))
for (const name of readdirSync(join(client, 'dist')))
  if (name.endsWith('.js')) cpSync(join(client, 'dist', name), join(out, 'client', name))
execFileSync('npx', ['tsc', '-p', here, '--outDir', out], { cwd: here, stdio: 'inherit' })

// The viewer of /docs, as it is published, with its licence and those of what it
// holds. The version is pinned in package.json.
const redoc = dirname(createRequire(import.meta.url).resolve('redoc/package.json'))
const bundle = readFileSync(join(redoc, 'bundles/redoc.standalone.js'))
const licences = [join(redoc, 'LICENSE'), join(redoc, 'bundles/redoc.standalone.js.LICENSE.txt')].map((file) => readFileSync(file, 'utf8'))
writeFileSync(join(out, 'docs/redoc.js.gz'), gzipSync(bundle, { level: 9 }))
writeFileSync(join(out, 'docs/LICENSE.txt'), licences.join('\n'))
