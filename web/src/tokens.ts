export interface Claims {
  exp: number
  iat: number
  [name: string]: unknown
}

/** An access token taken apart. Whether it is genuine, only its verifiers can say. */
export function takeApart(token: string): { parts: [string, string, string]; header: object; claims: Claims } {
  const parts = token.split('.') as [string, string, string]
  const read = (part: string) => JSON.parse(new TextDecoder().decode(bytes(part))) as object
  return { parts, header: read(parts[0]), claims: read(parts[1]) as Claims }
}

/** The generation that a refresh token is of: four bytes behind version, secret id, partition and seed. */
export function generationOf(token: string): number {
  return new DataView(bytes(token.slice('authapi_rt_'.length)).buffer).getUint32(1 + 4 + 1 + 16)
}

function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'))
  return Uint8Array.from(text, (c) => c.charCodeAt(0))
}
