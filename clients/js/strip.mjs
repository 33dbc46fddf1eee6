// Takes the indentation out of what the compiler has made, which is a sixteenth of
// what a page loads. No string in the sources goes over several lines.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

for (const name of readdirSync('dist'))
  if (name.endsWith('.js')) writeFileSync(`dist/${name}`, readFileSync(`dist/${name}`, 'utf8').replace(/^ +/gm, ''))
