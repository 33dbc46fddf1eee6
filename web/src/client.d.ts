// The page loads the client from beside itself.
declare module '*/client/index.js' {
  export * from '@authapi/client'
}
