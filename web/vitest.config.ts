import { defineConfig } from "vitest/config";

// The parts under test know no page; what does is tested in a real browser, in tests/e2e/web.
export default defineConfig({ test: { environment: "node", include: ["tests/**/*.test.ts"] } });
