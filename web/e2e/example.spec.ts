import { expect, KEY, test } from "./client.ts";

test("docs/web-example signs in, runs a turn and prints its events", async ({ page }) => {
  await page.goto("/");
  await page.getByLabel("API key").fill("pm_wrong");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.locator("pre")).toContainText("unauthenticated");
  await page.getByLabel("API key").fill(KEY);
  await page.getByLabel("Prompt").fill("play:markdown");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.locator("pre")).toContainText("turnStarted");
  await expect(page.locator("pre")).toContainText(/turnFinished .*What I found/);
});
