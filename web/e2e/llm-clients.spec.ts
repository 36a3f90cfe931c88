import { expect, test } from "@playwright/test";
import { createServer } from "vite";

declare global {
  interface Window {
    check: (options: Record<string, string>) => Promise<Record<string, string>>;
  }
}

const { POINTSMAN_URL, POINTSMAN_KEY, LLM_MODEL, LLM_PAGE_PORT } = process.env;

test("Anthropic's client works in a page of another origin", async ({ page }) => {
  const server = await createServer({
    configFile: false,
    root: "e2e/llm",
    logLevel: "error",
    server: { port: Number(LLM_PAGE_PORT), strictPort: true },
  });
  try {
    await server.listen();
    await page.goto(`http://localhost:${LLM_PAGE_PORT}/`);
    await page.waitForFunction(() => "check" in window);
    const results = await page.evaluate((options) => window.check(options), {
      base: POINTSMAN_URL ?? "",
      key: POINTSMAN_KEY ?? "",
      model: LLM_MODEL ?? "",
    });
    const failed = Object.entries(results).filter(([, seen]) => seen !== "ok");
    expect(Object.keys(results).length).toBeGreaterThan(10);
    expect(failed).toEqual([]);
  } finally {
    await server.close();
  }
});
