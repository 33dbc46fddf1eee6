export function takeApart(token) {
    const parts = token.split('.');
    const read = (part) => JSON.parse(new TextDecoder().decode(bytes(part)));
    return { parts, header: read(parts[0]), claims: read(parts[1]) };
}
export function generationOf(token) {
    return new DataView(bytes(token.slice('authapi_rt_'.length)).buffer).getUint32(1 + 4 + 1 + 16);
}
function bytes(base64url) {
    const text = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'));
    return Uint8Array.from(text, (c) => c.charCodeAt(0));
}
