import { defineConfig } from "vite";

export default defineConfig({
  // The client is used from its source: one build for both.
  server: {
    fs: { allow: [".", "../clients/typescript"] },
    proxy: { "/api": "http://127.0.0.1:8080" },
  },
  // The gateway's content security policy allows no inline scripts and no data: modules.
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
});
