import { another, DEMO, expect, test } from "./client.ts";

test.describe("approvals", () => {
  test("a permission request survives a reload; allowed, the tool runs", async ({ signedIn }) => {
    await signedIn.start("play:ask", { mode: "Ask first" });
    const card = signedIn.page.getByRole("region", { name: "Permission request" });
    await expect(card).toContainText("touch asked.txt");
    await signedIn.shot("approval");
    await signedIn.accessible();
    await signedIn.page.reload();
    await expect(card).toContainText("touch asked.txt");
    await card.getByRole("button", { name: "Allow", exact: true }).click();
    await expect(card).toBeHidden();
    await expect(signedIn.conversation).toContainText("I went on from there.");
    await signedIn.page.getByRole("button", { name: "Workspace" }).click();
    await expect(signedIn.page.getByRole("link", { name: "asked.txt" })).toBeVisible();
  });

  test("denied with a reason, by keyboard alone, the tool does not run and the agent is told", async ({
    signedIn,
  }) => {
    await signedIn.start("play:ask", { mode: "Ask first" });
    const card = signedIn.page.getByRole("region", { name: "Permission request" });
    await expect(card).toBeVisible();
    await signedIn.page.keyboard.press("Alt+d");
    await expect(card.getByRole("textbox")).toBeFocused();
    await signedIn.page.keyboard.type("Not in this folder");
    await signedIn.page.keyboard.press("Enter");
    await expect(signedIn.conversation).toContainText("I went on from there.");
    await signedIn.turns(1);
    await signedIn.conversation.getByText("Bash", { exact: true }).click();
    await expect(signedIn.conversation).toContainText(/Denied.*Not in this folder/);
    await signedIn.shot("denied");
  });

  test("allowed for the session, the same tool does not ask again", async ({ signedIn }) => {
    await signedIn.start("play:ask", { mode: "Ask first" });
    const card = signedIn.page.getByRole("region", { name: "Permission request" });
    await card.getByRole("button", { name: "Allow for this session" }).click();
    await signedIn.turns(1);
    await signedIn.say("play:ask");
    await signedIn.turns(2);
    await expect(card).toBeHidden();
  });

  test("a question is answered with one of its choices", async ({ signedIn }) => {
    await signedIn.start("play:question", { mode: "Ask first" });
    const card = signedIn.page.getByRole("region", { name: "Question" });
    await expect(card).toContainText("Which database should it use?");
    await signedIn.shot("question");
    await card.getByText("SQLite").click();
    await card.getByRole("button", { name: "Answer", exact: true }).click();
    await expect(signedIn.conversation).toContainText("Thank you for the answer.");
    await signedIn.turns(1);
    await signedIn.conversation.getByText("AskUserQuestion").click();
    await expect(signedIn.conversation.getByRole("region", { name: "Output" })).toContainText("SQLite");
  });
});

test.describe("the queue", () => {
  test("prompts sent meanwhile wait; they can be edited, moved and cancelled, and then run in that order", async ({
    signedIn,
  }) => {
    await signedIn.start("play:gate");
    await expect(signedIn.conversation).toContainText("The first half.");
    for (const prompt of ["Say alpha", "Say beta", "Say gamma"]) await signedIn.say(prompt);
    const queue = signedIn.page.getByRole("region", { name: "Queue" });
    const waiting = queue.getByRole("listitem");
    await expect(waiting).toHaveText([/alpha/, /beta/, /gamma/]);
    await waiting.nth(2).getByRole("button", { name: "Move up" }).click();
    await expect(waiting).toHaveText([/alpha/, /gamma/, /beta/]);
    await waiting.nth(0).getByRole("button", { name: "Cancel this prompt" }).click();
    await expect(waiting).toHaveText([/gamma/, /beta/]);
    await waiting.nth(1).getByRole("button", { name: "Edit" }).click();
    await signedIn.page.getByRole("dialog").getByRole("textbox").fill("Say delta");
    await signedIn.page.getByRole("button", { name: "Save" }).click();
    await expect(waiting).toHaveText([/gamma/, /delta/]);
    await signedIn.shot("queue");
    await signedIn.accessible();
    await signedIn.house("open/gate");
    await expect(queue).toBeHidden({ timeout: 60_000 });
    await expect(signedIn.page.getByRole("article", { name: "Prompt" }).last()).toContainText("Say delta");
    const prompts = await signedIn.page.getByRole("article", { name: "Prompt" }).allTextContents();
    expect(prompts.findIndex((each) => each.includes("gamma"))).toBeLessThan(
      prompts.findIndex((each) => each.includes("delta")),
    );
  });
});

test.describe("sessions", () => {
  test("the model of a session is kept over a reload, here and on the server", async ({
    signedIn,
    browser,
  }) => {
    await signedIn.start("play:markdown");
    await signedIn.turns(1);
    await signedIn.page.getByLabel("Model").selectOption("demo/offline");
    await expect
      .poll(() =>
        signedIn.page.evaluate(() =>
          Object.entries(localStorage)
            .filter(([key]) => key.startsWith("model_"))
            .map(([, value]) => value),
        ),
      )
      .toContain("demo/offline");
    await signedIn.page.reload();
    await expect(signedIn.page.getByLabel("Model")).toHaveValue("demo/offline");
    const elsewhere = await another(browser, { baseURL: process.env.POINTSMAN_URL });
    await elsewhere.signIn();
    await expect(elsewhere.prompt).toBeVisible();
    await elsewhere.page.goto(signedIn.page.url());
    await expect(elsewhere.page.getByLabel("Model")).toHaveValue("demo/offline");
  });

  test("a session is renamed and deleted", async ({ signedIn }) => {
    await signedIn.start("play:markdown");
    await signedIn.turns(1);
    await signedIn.page.getByLabel("Session", { exact: true }).click();
    await signedIn.page.getByRole("button", { name: "Rename" }).click();
    await signedIn.page.getByLabel("Title").fill("A name of its own");
    await signedIn.page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
    const list = signedIn.page.getByRole("navigation", { name: "Your sessions" });
    await expect(list).toContainText("A name of its own");
    await signedIn.page.getByLabel("Session", { exact: true }).click();
    await signedIn.page.getByRole("button", { name: "Delete" }).click();
    await signedIn.page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await expect(list).not.toContainText("A name of its own");
    await signedIn.page.goBack();
    await expect(signedIn.page.getByText("This session cannot be shown")).toBeVisible();
    await signedIn.shot("not-found");
  });

  test("a fork goes on by itself and leaves its origin as it is", async ({ signedIn }) => {
    await signedIn.start("Create hello.py that prints hello world, then run it", { model: DEMO });
    await signedIn.turns(1);
    const origin = signedIn.page.url();
    await signedIn.page.getByLabel("Session", { exact: true }).click();
    await signedIn.page.getByRole("button", { name: "Fork" }).click();
    await expect(signedIn.page).not.toHaveURL(origin);
    // The fork's own page, and not its origin's in the moment before.
    await expect(
      signedIn.page
        .getByRole("navigation", { name: "Your sessions" })
        .locator(`[aria-current=page][href="${new URL(signedIn.page.url()).hash}"]`),
    ).toBeVisible();
    await expect(signedIn.conversation).toContainText("Create hello.py");
    await signedIn.say("Which files did you create?");
    await signedIn.turns(2);
    await expect(signedIn.conversation).toContainText("hello.py");
    await signedIn.shot("fork");
    await signedIn.page.goto(origin);
    await signedIn.turns(1);
  });

  test("a link to a turn leads there", async ({ signedIn }) => {
    await signedIn.start("play:markdown");
    await signedIn.turns(1);
    for (let turn = 2; turn <= 4; turn++) {
      await signedIn.say("play:markdown");
      await signedIn.turns(turn);
    }
    const first = signedIn.page.getByRole("article", { name: "Prompt" }).first();
    const id = (await first.getAttribute("id"))?.replace("turn-", "");
    await expect(first).not.toBeInViewport();
    await signedIn.page.goto(`${signedIn.page.url()}/turns/${id}`);
    await signedIn.page.reload();
    await expect(first).toBeInViewport();
  });
});
