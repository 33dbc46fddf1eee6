import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

test('what the README shows compiles', () => {
  const blocks = [...readFileSync(at('../../README.md'), 'utf8').matchAll(/^```ts\n([^]*?)^```$/gm)].map((m) => m[1]!)
  assert.equal(blocks.length, 3)
  const folder = at('./readme')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  writeFileSync(`${folder}/browser.ts`, blocks[0]! + blocks[1]!)
  writeFileSync(`${folder}/phone.ts`, blocks[2]!)
  // Its own declarations are not installed here.
  writeFileSync(
    `${folder}/expo.d.ts`,
    `declare module 'expo-secure-store' {
      export function getItemAsync(key: string, options?: object): Promise<string | null>
      export function setItemAsync(key: string, value: string, options?: object): Promise<void>
      export function deleteItemAsync(key: string, options?: object): Promise<void>
    }`,
  )
  writeFileSync(
    `${folder}/tsconfig.json`,
    JSON.stringify({ extends: '../../../tsconfig.json', compilerOptions: { noEmit: true, declaration: false, rootDir: '.', lib: ['es2022', 'dom'] }, include: ['*.ts'] }),
  )
  execFileSync('npx', ['tsc', '-p', folder], { stdio: 'pipe', encoding: 'utf8' })
})
