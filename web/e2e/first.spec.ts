import { another, DEMO, expect, KEY, test } from "./client.ts";

test.describe("signing in", () => {
  test("a wrong key is refused with what to do, and nothing of it is kept", async ({ client }) => {
    await client.signIn("pm_wrong");
    await expect(client.page.getByRole("alert").first()).toContainText("Check for missing characters");
    await client.shot("sign-in-refused");
    await client.accessible();
    expect(
      await client.page.evaluate(() => JSON.stringify({ ...sessionStorage, ...localStorage })),
    ).not.toContain("pm_wrong");
  });

  test("the key stays in the tab: not in the URL, not in another tab, gone after signing out", async ({
    signedIn,
    context,
  }) => {
    expect(signedIn.page.url()).not.toContain(KEY);
    await signedIn.page.reload();
    await expect(signedIn.prompt).toBeVisible();
    const other = await context.newPage();
    await other.goto("/");
    await expect(other.getByLabel("API key or token")).toBeVisible();
    await signedIn.page.getByRole("button", { name: "Sign out" }).click();
    await expect(signedIn.page.getByLabel("API key or token")).toBeVisible();
    await expect.poll(() => signedIn.page.evaluate(() => sessionStorage.length)).toBe(0);
  });

  test("nothing is asked of any other origin", async ({ client }) => {
    const elsewhere: string[] = [];
    client.page.on("request", (request) => {
      if (!request.url().startsWith(process.env.POINTSMAN_URL ?? "") && !request.url().startsWith("blob:"))
        elsewhere.push(request.url());
    });
    await client.signIn();
    await client.start("play:hostile");
    await expect(client.conversation).toContainText("harmless after all");
    expect(elsewhere).toEqual([]);
  });
});

test.describe("a turn", () => {
  test("the demo model writes a file and runs it: tool rows, diff, usage, file", async ({ signedIn }) => {
    await signedIn.start("Create hello.py that prints hello world, then run it", { model: DEMO });
    await expect(signedIn.conversation.getByText("Write", { exact: true })).toBeVisible();
    await expect(signedIn.conversation.getByRole("region", { name: "Changes in hello.py" })).toContainText(
      "hello world",
    );
    await expect(signedIn.conversation.getByText("Bash", { exact: true })).toBeVisible();
    await signedIn.turns(1);
    await expect(signedIn.ends.first()).toContainText("demo/offline");
    await signedIn.conversation.getByText("Bash", { exact: true }).click();
    await expect(signedIn.conversation.getByRole("region", { name: "Output" })).toContainText("hello world");
    await expect(signedIn.page.getByRole("navigation", { name: "Your sessions" })).toContainText(
      "Create hello.py",
    );
    await signedIn.shot("turn");
    await signedIn.accessible();
  });

  test("text is shown while it is written", async ({ signedIn }) => {
    await signedIn.start("play:gate");
    await expect(signedIn.conversation).toContainText("The first half.");
    await expect(signedIn.conversation).not.toContainText("The second half.");
    await expect(signedIn.page).toHaveTitle(/^● /);
    await signedIn.shot("streaming");
    await signedIn.house("open/gate");
    await expect(signedIn.conversation).toContainText("The first half. The second half.");
    await signedIn.turns(1);
  });

  test("an edited file is a diff, and the answer is Markdown", async ({ signedIn }) => {
    await signedIn.start("play:edit");
    const diff = signedIn.conversation.getByRole("region", { name: "Changes in app.py" }).last();
    await expect(diff.locator(".removed .diff-text")).toHaveText("print('one')");
    await expect(diff.locator(".added .diff-text")).toHaveText("print('two')");
    await signedIn.turns(1);
    await signedIn.say("play:markdown");
    await expect(signedIn.conversation.getByRole("heading", { name: "What I found" })).toBeVisible();
    await expect(signedIn.conversation.getByRole("link", { name: "the page" })).toHaveAttribute(
      "href",
      "https://example.com",
    );
    await expect(signedIn.conversation.getByRole("cell", { name: "2" })).toBeVisible();
    await expect(signedIn.conversation.locator(".code-keyword").getByText("def")).toBeVisible();
    await signedIn.turns(2);
    await signedIn.shot("markdown");
  });

  test("a sub-agent's steps are nested in the call that started it", async ({ signedIn }) => {
    await signedIn.start("play:helper");
    await expect(signedIn.conversation).toContainText("The helper is back.");
    await signedIn.turns(1);
    const inside = signedIn.conversation.locator(".sub-agent > summary");
    await expect(inside).toBeVisible();
    if (!(await signedIn.conversation.getByText("echo inside").isVisible())) await inside.click();
    await expect(signedIn.conversation.locator(".sub-agent").getByText("echo inside")).toBeVisible();
    await signedIn.shot("sub-agent");
  });

  test("stopping ends it, and the conversation goes on", async ({ signedIn }) => {
    await signedIn.start("play:gate");
    await expect(signedIn.conversation).toContainText("The first half.");
    await signedIn.page.getByRole("button", { name: "Stop" }).click();
    await expect(signedIn.conversation.getByText("Stopped")).toBeVisible();
    await signedIn.say("play:markdown");
    await expect(signedIn.conversation.getByRole("heading", { name: "What I found" })).toBeVisible();
  });

  test("a question that needs no tools is answered directly, and it says so", async ({ signedIn }) => {
    await signedIn.start("What is 17*23?", { model: DEMO });
    await expect(signedIn.conversation).toContainText("391");
    await signedIn.turns(1);
    await expect(signedIn.conversation).toContainText("Answered directly, without a sandbox");
    await expect(signedIn.ends.first()).toContainText("direct");
  });

  test("a provider that stumbles: the retry is shown; one that refuses: what to do", async ({ signedIn }) => {
    await signedIn.start("play:stumbles");
    await expect(signedIn.conversation).toContainText("Up again.");
    await expect(signedIn.conversation).toContainText("Model call failed (attempt 1");
    await signedIn.turns(1);
    await signedIn.say("play:refuses");
    await expect(signedIn.conversation.getByText("The turn failed")).toBeVisible();
    await expect(signedIn.conversation).toContainText("Choose another model");
    await signedIn.shot("failed");
  });

  test("over plain HTTP from another machine, where browsers keep some of their functions back", async ({
    browser,
  }) => {
    const address = new URL(process.env.POINTSMAN_URL ?? "");
    const client = await another(browser, { baseURL: `http://pointsman.test:${address.port}` });
    await client.signIn();
    await expect(client.prompt).toBeVisible();
    expect(await client.page.evaluate(() => isSecureContext)).toBe(false);
    await client.start("play:markdown");
    await client.turns(1);
    const copy = client.page.getByRole("button", { name: "Copy code" });
    // It says so for a moment only: the page itself keeps that it did.
    await copy.evaluate((button) => {
      const noted = new Promise<void>((resolve) => {
        const look = () => button.textContent?.includes("Copied") && resolve();
        new MutationObserver(look).observe(button, { childList: true, characterData: true, subtree: true });
      });
      Object.assign(window, { noted });
    });
    await copy.click();
    await client.page.evaluate(() => (window as unknown as { noted: Promise<void> }).noted);
    expect(client.faults).toEqual([]);
  });

  test("an unknown model is refused in words, and the prompt is not lost", async ({ signedIn }) => {
    await signedIn.page.getByRole("link", { name: "New session", exact: true }).click();
    await signedIn.chooseModel("nobody/knows-this");
    await signedIn.say("Hello?");
    await signedIn.told("nobody/knows-this");
    await expect(signedIn.prompt).toHaveValue("Hello?");
    await signedIn.shot("refused");
  });
});
