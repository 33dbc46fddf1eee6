declare const Redoc: {
  init(spec: string, options: object, element: HTMLElement | null): void
}

// The search would need a worker made of a blob, which the policy forbids.
Redoc.init(
  '/openapi.yaml',
  {
    disableSearch: true,
    hideDownloadButtons: true,
    nativeScrollbars: true,
    requiredPropsFirst: true,
    expandResponses: '200,204',
    theme: {
      colors: { primary: { main: '#0b6e61' } },
      typography: {
        fontFamily: 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif',
        headings: { fontFamily: 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif' },
        code: { fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace' },
      },
    },
  },
  document.getElementById('reference'),
)
