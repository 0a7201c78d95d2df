/** The build: three pages, every address relative, nothing inline, so that `default-src 'self'` is all the policy they need. */

import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  // Not "browser": the parser's table of entities has a variant for it that decodes them by innerHTML.
  resolve: { conditions: ["module", "development|production"] },
  build: {
    outDir: "../page",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: { input: ["index.html", "tasks.html", "console.html"] },
  },
});
