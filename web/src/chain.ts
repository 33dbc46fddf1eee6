import { svg } from './dom.js'
import type { Chain } from './phone.js'

const step = 104
const left = 46
const row = 78
const below = 174
const radius = 25

/** Draws the generations in a row, whom they went to, and how it ended. */
export function draw(chain: Chain): SVGElement {
  const last = chain.links.length - 1
  const x = (generation: number) => left + generation * step
  const end = x(last) + step
  const width = (chain.over ? end + 62 : x(last) + left) + 8
  const tall = chain.stolen !== undefined
  const height = tall ? 222 : 132

  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': inWords(chain) })
  picture.append(
    svg(
      'defs',
      {},
      ...['plain', 'bad'].map((kind) =>
        svg(
          'marker',
          { id: `head-${kind}`, viewBox: '0 0 8 8', refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: 'auto-start-reverse' },
          svg('path', { d: 'M0 0 8 4 0 8z', class: `head ${kind}` }),
        ),
      ),
    ),
  )
  const arrow = (d: string, kind: 'plain' | 'bad', more = '') =>
    picture.append(svg('path', { d, class: `edge ${kind} ${more}`, 'marker-end': `url(#head-${kind})` }))
  const label = (at: number, y: number, text: string, more = '') =>
    picture.append(svg('text', { x: at, y, class: `label ${more}` }, text))

  chain.links.forEach((link, generation) => {
    if (generation > 0 && link.by === 'phone') {
      arrow(`M${x(generation - 1) + radius + 2} ${row} H${x(generation) - radius - 4}`, 'plain')
      if (link.retries) {
        const from = x(generation - 1) + 14
        arrow(`M${from} ${row - radius + 2} C${from + 14} 24 ${x(generation) - 28} 24 ${x(generation) - 15} ${row - radius - 1}`, 'plain', 'retry')
        label((x(generation - 1) + x(generation)) / 2, 24, 'retry')
      }
    }
    const state = chain.over ? 'over' : generation === last ? 'current' : 'spent'
    picture.append(
      svg(
        'g',
        { class: `link ${state} ${link.by}` },
        svg('circle', { cx: x(generation), cy: row, r: radius }),
        svg('text', { x: x(generation), y: row + 6 }, String(generation)),
      ),
    )
    const what = generation === 0 ? 'login' : link.by === 'thief' ? 'the thief’s' : generation < last ? 'spent' : chain.over ? 'ended' : 'current'
    label(x(generation) + (link.by === 'thief' ? 12 : 0), row + radius + 20, what, link.by)
  })

  if (chain.stolen !== undefined) {
    const at = x(chain.stolen)
    picture.append(svg('path', { d: `M${at} ${row + radius + 28} V${below - 22}`, class: 'edge bad copy' }))
    picture.append(
      svg(
        'g',
        { class: 'copy' },
        svg('rect', { x: at - 24, y: below - 20, width: 48, height: 40, rx: 9 }),
        svg('text', { x: at, y: below + 6 }, String(chain.stolen)),
      ),
    )
    label(at, below + 38, 'stolen copy', 'thief')
    if (chain.links[chain.stolen + 1]?.by === 'thief')
      arrow(`M${at + 26} ${below} C${at + 62} ${below} ${at + step - 48} ${row + 66} ${at + step - 24} ${row + 16}`, 'bad')
  }
  if (chain.over) {
    const { reuse } = chain
    if (reuse?.by === 'thief') arrow(`M${x(reuse.generation) + 26} ${below} H${end - 20} Q${end + 4} ${below} ${end + 8} ${row + 34}`, 'bad')
    else if (reuse) {
      const from = x(reuse.generation)
      arrow(`M${from + 12} ${row - radius + 1} C${from + 40} ${row - 92} ${end - 50} ${row - 92} ${end - 9} ${row - 27}`, 'bad')
    } else arrow(`M${x(last) + radius + 2} ${row} H${end - 24}`, 'bad')
    const r = 30
    const points = Array.from({ length: 8 }, (_, i) => {
      const angle = Math.PI / 8 + (i * Math.PI) / 4
      return `${(end + 10 + r * Math.cos(angle)).toFixed(1)},${(row + r * Math.sin(angle)).toFixed(1)}`
    })
    picture.append(svg('g', { class: 'end' }, svg('polygon', { points: points.join(' ') }), svg('text', { x: end + 10, y: row + 5 }, 'end')))
    // Where no arrow is.
    label(end + 10, reuse?.by === 'thief' ? row - 42 : row + 50, chain.over, 'thief')
  }
  return picture
}

/** The same for those who cannot see it. */
function inWords({ links, stolen, reuse, over }: Chain): string {
  const said = [`A chain of ${links.length} refresh tokens, generations 0 to ${links.length - 1}.`]
  links.forEach((link, generation) => {
    if (link.retries) said.push(`Generation ${generation} was handed out again to a retry.`)
    if (link.by === 'thief') said.push(`Generation ${generation} went to a thief.`)
  })
  if (stolen !== undefined) said.push(`Generation ${stolen} was stolen.`)
  if (reuse) said.push(`The ${reuse.by} used generation ${reuse.generation} again.`)
  if (over) said.push(`The session is over: ${over}.`)
  return said.join(' ')
}
