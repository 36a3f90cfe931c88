import { defineConfig } from "vite";

// The page and Pointsman on one origin: no CORS. In production, serve the page where Pointsman's edge is,
// or have the operator allow the page's origin.
export default defineConfig({
  server: { proxy: { "/pointsman.": process.env.POINTSMAN_URL ?? "http://localhost:8080" } },
});
