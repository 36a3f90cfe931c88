import { another, type Client, expect, test } from "./client.ts";

/** The conversation as text, without clocks. */
async function transcript(client: Client): Promise<string[]> {
  const rows = client.conversation.locator(".prompt-text, .answer, .tool-line > summary");
  return (await rows.allTextContents()).map((text) => text.trim());
}

test("a reload in mid-turn shows all of it, once", async ({ signedIn }) => {
  await signedIn.start("play:tool-then-gate");
  await expect(signedIn.conversation).toContainText("After the tool.");
  await signedIn.page.reload();
  await expect(signedIn.conversation).toContainText("After the tool.");
  await signedIn.house("open/tool-then-gate");
  await expect(signedIn.conversation).toContainText("After the tool. All done.");
  await signedIn.turns(1);
  expect((await transcript(signedIn)).filter((text) => text.includes("After the tool."))).toHaveLength(1);
});

// The edge and the router only in a run of full size: each costs half a minute on a busy machine.
for (const service of process.env.CHAOS_FULL ? ["session", "edge", "router"] : ["session"]) {
  test(`${service} killed in mid-turn: it says so, comes back by itself, and nothing is missing or doubled`, async ({
    signedIn,
  }) => {
    await signedIn.start("play:tool-then-gate");
    await expect(signedIn.conversation).toContainText("After the tool.");
    // The router is no part of a stream that is open: its loss is not even seen.
    if (service === "router") await signedIn.house("kill/router");
    else {
      await signedIn.house(`down/${service}`);
      await expect(signedIn.page.getByText("Connection lost, reconnecting.")).toBeVisible();
      await signedIn.house(`up/${service}`);
    }
    await expect(signedIn.page.getByText("Connection lost, reconnecting.")).toBeHidden({ timeout: 60_000 });
    await signedIn.house("open/tool-then-gate");
    await expect(signedIn.conversation).toContainText("After the tool. All done.", { timeout: 60_000 });
    await signedIn.turns(1);
    const seen = await transcript(signedIn);
    expect(seen.filter((text) => text.includes("After the tool."))).toHaveLength(1);
    expect(seen.filter((text) => text.startsWith("Bash"))).toHaveLength(1);
    await signedIn.page.reload();
    await signedIn.turns(1);
    await expect.poll(() => transcript(signedIn)).toEqual(seen);
  });
}

test("the runner killed in mid-turn: the turn is cut off, honestly, and the next one works", async ({
  signedIn,
}) => {
  await signedIn.start("play:tool-then-gate");
  await expect(signedIn.conversation).toContainText("After the tool.");
  await signedIn.house("kill/runner");
  await expect(signedIn.conversation.getByText("The turn was cut off")).toBeVisible({ timeout: 60_000 });
  await signedIn.shot("cut-off");
  await signedIn.say("play:markdown");
  await expect(signedIn.conversation.getByRole("heading", { name: "What I found" })).toBeVisible({
    timeout: 60_000,
  });
});

test("a network that goes away and comes back", async ({ signedIn, context }) => {
  await signedIn.start("play:tool-then-gate");
  await expect(signedIn.conversation).toContainText("After the tool.");
  await context.setOffline(true);
  // A stream that is open lives on in an offline browser; a new one is refused. Prompts say so and are not lost.
  await signedIn.say("Say later");
  await signedIn.told("offline");
  await expect(signedIn.prompt).toHaveValue("Say later");
  await context.setOffline(false);
  await expect.poll(() => signedIn.page.evaluate(() => navigator.onLine)).toBe(true);
  await signedIn.prompt.press("Enter");
  await signedIn.house("open/tool-then-gate");
  await expect(signedIn.conversation).toContainText("All done.");
  await signedIn.turns(2);
});

test("two tabs on one session stay in step", async ({ signedIn, browser }) => {
  await signedIn.start("play:tool-then-gate");
  const other = await another(browser, { baseURL: process.env.POINTSMAN_URL });
  await other.signIn();
  await expect(other.prompt).toBeVisible();
  await other.page.goto(signedIn.page.url());
  await expect(other.conversation).toContainText("After the tool.");
  await other.say("play:markdown");
  await expect(signedIn.page.getByRole("region", { name: "Queue" })).toContainText("play:markdown");
  await signedIn.house("open/tool-then-gate");
  await signedIn.turns(2);
  await other.turns(2);
  await expect(async () => expect(await transcript(other)).toEqual(await transcript(signedIn))).toPass({
    timeout: 30_000,
  });
  await signedIn.say("play:gate");
  await expect(other.conversation).toContainText("The first half.");
  await other.page.getByRole("button", { name: "Stop" }).click();
  await expect(signedIn.conversation.getByText("Stopped")).toBeVisible();
  expect(other.faults).toEqual([]);
});
