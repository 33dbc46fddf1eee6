/** Sessions come in sixteen partitions, each of which the issuer knows about separately. */

export const partitions = 16

const tags = ['18', '5x', 'dj', '3r', 'd2', 'pv', 'uh', 'iy', 'ly', 'h9', 'uv', 'q6', '9s', '5f', 'dt', 'ha']

/** Returns the partition that a session id names in its first characters; undefined if it has not the form of one. */
export function partitionOf(sid: string): number | undefined {
  if (!/^..\.[A-Za-z0-9_-]{22}$/.test(sid)) return undefined
  const partition = tags.indexOf(sid.slice(0, 2))
  return partition < 0 ? undefined : partition
}

/** The two characters that a partition's session ids begin with. */
export function tagOf(partition: number): string {
  return tags[partition]!
}
