import { defineConfig, type Plugin } from "vite";
import { CONTENT_SECURITY_POLICY } from "./security.ts";

/** Puts the policy into the built page, so that it holds whoever serves it. Not in development: hot reload needs inline styles. */
function contentSecurityPolicy(): Plugin {
  return {
    name: "content-security-policy",
    apply: "build",
    transformIndexHtml: () => [
      {
        tag: "meta",
        attrs: { "http-equiv": "content-security-policy", content: CONTENT_SECURITY_POLICY },
        injectTo: "head-prepend",
      },
    ],
  };
}

export default defineConfig({
  plugins: [contentSecurityPolicy()],
  build: { target: "es2022", sourcemap: false, assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: {
    // `npm run dev` beside a running suite, or beside `npm run backend`.
    proxy: { "/pointsman.": { target: process.env.POINTSMAN_URL ?? "http://localhost:8080" } },
  },
});
