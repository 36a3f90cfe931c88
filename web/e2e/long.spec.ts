import { expect, test } from "./client.ts";

// Against the scripted backend: ten thousand events from a real agent would take minutes to make.
test("ten thousand events: there at once, smooth to scroll, and few of them in the page", async ({
  signedIn,
}) => {
  const { page } = signedIn;
  await signedIn.say("Do 10,000 events");
  await expect(signedIn.conversation).toContainText("Step 3299 is done", { timeout: 60_000 });
  await signedIn.turns(1);
  const begun = Date.now();
  await page.reload();
  await expect(signedIn.conversation).toContainText("Step 3299 is done", { timeout: 60_000 });
  const reload = Date.now() - begun;
  const scrolled = await signedIn.conversation.evaluate(async (element) => {
    const frames: number[] = [];
    let last = performance.now();
    for (let step = 0; step < 150; step++) {
      element.scrollTop -= 500;
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      frames.push(now - last);
      last = now;
    }
    frames.sort((a, b) => a - b);
    return {
      median: frames[75] ?? 0,
      worst: frames.at(-1) ?? 0,
      nodes: document.querySelectorAll("*").length,
    };
  });
  console.log(
    `reloaded in ${reload} ms; frames while scrolling: median ${scrolled.median.toFixed(1)} ms, worst ${scrolled.worst.toFixed(1)} ms; ${scrolled.nodes} elements`,
  );
  // The machine's speed is not what is tested: a page that holds all rows at once has 100,000 elements.
  expect(scrolled.nodes).toBeLessThan(6000);
  expect(scrolled.median).toBeLessThan(300);
  expect(reload).toBeLessThan(30_000);
  await page.getByRole("button", { name: "To the end" }).click();
  await expect(signedIn.conversation.getByText("Step 3299")).toBeInViewport();
});

test("a diff of 2,000 lines: folded first, all of it on asking, and the page answers meanwhile", async ({
  signedIn,
}) => {
  await signedIn.say("Write a file of 2,000 lines");
  await signedIn.turns(1);
  await signedIn.conversation.getByText("table.py").last().click();
  const lines = signedIn.conversation
    .getByRole("region", { name: "Changes in table.py" })
    .locator(".diff-line");
  const before = await lines.count();
  expect(before).toBeLessThan(200);
  const seconds = await signedIn.computing(async () => {
    await signedIn.conversation.getByRole("button", { name: "Show all 2,001 lines" }).click();
    await expect(lines).toHaveCount(2001);
    await signedIn.prompt.fill("still here");
  });
  console.log(`2,001 lines: the page computed for ${seconds.toFixed(2)} s`);
  expect(seconds).toBeLessThan(5);
  await expect(signedIn.prompt).toHaveValue("still here");
});

test("a server that cuts every connection in mid-block: text goes on where it was, each line once", async ({
  signedIn,
}) => {
  await signedIn.say("Slow, please");
  await expect(signedIn.conversation).toContainText("Line 3 of a long answer.");
  for (let cut = 0; cut < 3; cut++) {
    await fetch(`${process.env.POINTSMAN_URL}/control/down?ms=900`, { method: "POST" }).catch(
      () => undefined,
    );
    const lines = await signedIn.conversation.locator(".answer p").count();
    await expect.poll(() => signedIn.conversation.locator(".answer p").count()).toBeGreaterThan(lines + 2);
  }
  await signedIn.page.getByRole("button", { name: "Stop" }).click();
  await expect(signedIn.conversation.getByText("Stopped")).toBeVisible();
  const lines = await signedIn.conversation.locator(".answer p").allTextContents();
  expect(lines.slice(0, -1)).toEqual(
    lines.slice(0, -1).map((_, index) => `Line ${index + 1} of a long answer.`),
  );
});
