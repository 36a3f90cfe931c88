import { defineConfig } from "@playwright/test";

/**
 * Run by tests/e2e/web/test_web.py, which starts what the pages talk to and says where it is:
 * POINTSMAN_URL, POINTSMAN_KEY, and POINTSMAN_HOUSE for the scripted model and the hand on the processes.
 */
export default defineConfig({
  testDir: "e2e",
  outputDir: process.env.PLAYWRIGHT_OUTPUT ?? "test-results/by-hand",
  reporter: [["list"]],
  // One at a time: an account runs one turn at a time, and services are killed.
  workers: 1,
  timeout: 150_000,
  // A cold sandbox on a busy machine answers within seconds, not within Playwright's five.
  expect: { timeout: 30_000 },
  use: {
    baseURL: process.env.POINTSMAN_URL,
    viewport: { width: 1360, height: 860 },
    actionTimeout: 30_000,
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      // `pointsman.test` is this machine, and yet no secure context as `localhost` is.
      args: [
        "--host-resolver-rules=MAP pointsman.test 127.0.0.1",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
