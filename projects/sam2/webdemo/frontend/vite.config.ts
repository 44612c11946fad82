import { defineConfig } from 'vitest/config';

// `npm run dev` talks to a demo that runs elsewhere:
// MMSAM2_DEMO=http://127.0.0.1:8092 npm run dev
const server = process.env['MMSAM2_DEMO'] ?? 'http://127.0.0.1:8092';

export default defineConfig({
  // Relative addresses: the page also works below a root path of a proxy.
  base: './',
  build: {
    outDir: process.env['MMSAM2_STATIC'] ?? '../static',
    emptyOutDir: true,
    target: 'es2022',
    sourcemap: false,
    // Inlined assets would be `data:` addresses, which the security policy forbids.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { '/api': { target: server, ws: true, changeOrigin: true, headers: { origin: server } } },
  },
  test: { environment: 'happy-dom', css: true, include: ['tests/**/*.test.{ts,tsx}'] },
});
