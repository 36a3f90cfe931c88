import { another, DEMO, expect, KEY, type Locator, test } from "./client.ts";

const PHONE = {
  viewport: { width: 390, height: 844 },
  isMobile: true,
  hasTouch: true,
  deviceScaleFactor: 2,
  baseURL: process.env.POINTSMAN_URL,
};

function isFocused(element: Locator): Promise<boolean> {
  return element.evaluate((each) => each === document.activeElement);
}

test("phone: sign in, run a turn, look at a file, without ever scrolling sideways", async ({ browser }) => {
  const client = await another(browser, PHONE);
  const { page } = client;
  const fits = async () =>
    expect.poll(() => page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  await client.signIn();
  await expect(client.prompt).toBeVisible();
  await fits();
  await client.shot("phone-new");
  await page.getByLabel("Model").selectOption(DEMO);
  await client.prompt.fill("Create hello.py that prints hello world, then run it");
  await page.getByRole("button", { name: "Send" }).click();
  await client.turns(1);
  await fits();
  await client.shot("phone-turn");
  await client.accessible();
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByRole("link", { name: "hello.py" }).click();
  await expect(page.getByRole("region", { name: "Contents of hello.py" })).toContainText("hello world");
  await fits();
  await client.shot("phone-file");
  await page.getByRole("button", { name: "Close the workspace" }).click();
  await page.getByRole("button", { name: "Sessions" }).click();
  await expect(
    page.getByRole("navigation", { name: "Your sessions" }).getByRole("link").first(),
  ).toBeInViewport();
  await client.shot("phone-sessions");
  await page.getByRole("link", { name: "Status", exact: true }).click();
  await expect(page.getByText("All healthy")).toBeVisible();
  await fits();
  expect(client.faults).toEqual([]);
});

test("dark: follows the system, can be chosen, is kept", async ({ browser }) => {
  const client = await another(browser, {
    colorScheme: "dark",
    baseURL: process.env.POINTSMAN_URL,
    viewport: { width: 1360, height: 860 },
  });
  const { page } = client;
  await client.signIn();
  await expect(client.prompt).toBeVisible();
  const brightness = () =>
    page.evaluate(() => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)?.[0]));
  await expect.poll(brightness).toBeLessThan(60);
  await client.start("play:edit");
  await client.turns(1);
  await client.shot("dark-turn");
  await client.accessible();
  await page.getByRole("button", { name: /^Colours: system/ }).click();
  await expect.poll(brightness).toBeGreaterThan(200);
  await page.reload();
  await expect(page.getByRole("button", { name: /^Colours: light/ })).toBeVisible();
  await expect.poll(brightness).toBeGreaterThan(200);
});

test("by keyboard alone: sign in, choose a model, send, approve, open a tool's row, go to another session", async ({
  client,
}) => {
  const { page } = client;
  const { keyboard } = page;
  await page.goto("/");
  await expect(page.getByLabel("API key or token")).toBeFocused();
  await keyboard.type(KEY);
  await keyboard.press("Enter");
  await expect(client.prompt).toBeFocused();
  await keyboard.press("Tab");
  await expect(page.getByLabel("Model")).toBeFocused();
  await expect(page.getByLabel("Model")).toContainText("Another model…");
  await keyboard.press("End");
  await expect(page.getByLabel(/Provider and name/)).toBeFocused();
  await keyboard.type("groq/scripted");
  await keyboard.press("Enter");
  await expect(page.getByLabel("Model")).toHaveValue("groq/scripted");
  await expect(page.getByLabel("Model")).toBeFocused();
  await keyboard.press("Tab");
  await expect(page.getByLabel("Permission mode")).toBeFocused();
  await keyboard.type("Ask");
  await expect(page.getByLabel("Permission mode").locator("option:checked")).toHaveText("Ask first");
  await keyboard.press("Shift+Tab");
  await expect(page.getByLabel("Model")).toBeFocused();
  await keyboard.press("Shift+Tab");
  await expect(client.prompt).toBeFocused();
  await keyboard.type("play:ask");
  await keyboard.press("Enter");

  const card = page.getByRole("region", { name: "Permission request" });
  await expect(card).toContainText("touch asked.txt");
  await keyboard.press("Alt+a");
  await expect(client.conversation).toContainText("I went on from there.");
  await client.turns(1);
  await expect(client.prompt).toBeFocused();
  const row = client.conversation.locator("summary").filter({ hasText: "touch asked.txt" });
  for (let step = 0; step < 10 && !(await isFocused(row)); step++) await keyboard.press("Shift+Tab");
  await expect(row).toBeFocused();
  await keyboard.press("Enter");
  await expect(client.conversation.getByRole("region", { name: "Output" })).toBeVisible();
  await client.shot("keyboard-row");

  const first = page.url();
  await keyboard.press("Alt+n");
  await expect(page.getByRole("heading", { name: "What should the agent do?" })).toBeVisible();
  await expect(client.prompt).toBeFocused();
  await keyboard.press("Alt+k");
  const find = page.getByLabel("Find a session");
  await expect(find).toBeFocused();
  await keyboard.type("play:ask");
  const found = page.getByRole("navigation", { name: "Your sessions" }).getByRole("link").first();
  await expect(found).toHaveAttribute("href", new URL(first).hash);
  await keyboard.press("Tab");
  await expect(found).toBeFocused();
  await keyboard.press("Enter");
  await expect(page).toHaveURL(first);
  await expect(client.prompt).toBeFocused();
});

test("by keyboard alone: menus and dialogs give focus back to where it was", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:markdown");
  await signedIn.turns(1);
  const menu = page.getByLabel("Session", { exact: true });
  const rename = page.getByRole("button", { name: "Rename" });
  await menu.focus();
  await page.keyboard.press("Enter");
  await expect(rename).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(rename).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.getByRole("dialog").getByRole("textbox")).toBeFocused();
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();
  await expect(menu).toBeFocused();
});

test("shortcuts: workspace, finding, the list of keys; none while somebody types", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:markdown");
  await signedIn.turns(1);
  await page.keyboard.press("Alt+w");
  await expect(page.getByRole("complementary", { name: "Workspace" })).toBeVisible();
  await page.keyboard.press("Alt+w");
  await expect(page.getByRole("complementary", { name: "Workspace" })).toBeHidden();
  await page.keyboard.press("Alt+k");
  await expect(page.getByLabel("Find a session")).toBeFocused();
  await page.keyboard.type("no such session");
  await expect(page.getByText("None found")).toBeVisible();
  await page.keyboard.press("Control+a");
  await page.keyboard.press("Delete");
  await expect(page.getByLabel("Find a session")).toHaveValue("");
  await signedIn.conversation.focus();
  await page.keyboard.press("?");
  await expect(page.getByRole("dialog", { name: "Keyboard" })).toBeVisible();
  await signedIn.shot("keyboard");
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog", { name: "Keyboard" })).toBeHidden();
  await expect(signedIn.conversation).toBeFocused();
  await page.keyboard.press("/");
  await expect(signedIn.prompt).toBeFocused();
  await page.keyboard.type("? is typed, not obeyed");
  await expect(signedIn.prompt).toHaveValue("? is typed, not obeyed");
});

test("scrolling up while it writes is respected, and the way back is one click", async ({ signedIn }) => {
  await signedIn.start("play:lines");
  await signedIn.turns(1);
  await signedIn.say("play:edit");
  await signedIn.turns(2);
  await signedIn.say("play:gate");
  await expect(signedIn.conversation).toContainText("The first half.");
  const top = () => signedIn.conversation.evaluate((element) => element.scrollTop);
  // A wheel's scrolling is spread over some frames.
  const atRest = () =>
    signedIn.conversation.evaluate(async (element) => {
      let [last, frames] = [element.scrollTop, 0];
      while (frames < 30) {
        await new Promise(requestAnimationFrame);
        frames = element.scrollTop === last ? frames + 1 : 0;
        last = element.scrollTop;
      }
    });
  await signedIn.conversation.hover();
  await signedIn.page.mouse.wheel(0, -400);
  await expect(signedIn.page.getByRole("button", { name: "Follow" })).toBeVisible();
  await atRest();
  const before = await top();
  await signedIn.house("open/gate");
  await expect(signedIn.conversation).toContainText("The second half.");
  await signedIn.turns(3);
  expect(Math.abs((await top()) - before)).toBeLessThan(2);
  await signedIn.page.getByRole("button", { name: "To the end" }).click();
  await expect(signedIn.conversation.getByText("The second half.")).toBeInViewport();
});

test("the status page says how it stands, and holds nothing that axe calls serious", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:markdown");
  await signedIn.turns(1);
  await signedIn.say("play:gate");
  await expect(signedIn.conversation).toContainText("The first half.");
  await page.getByRole("link", { name: "Status", exact: true }).click();
  await expect(page.getByRole("row", { name: signedIn.account })).toContainText("1 of 1");
  await expect(page.getByText("All healthy")).toBeVisible();
  for (const service of ["router", "session", "runner", "llm-proxy"])
    await expect(page.getByRole("listitem").filter({ hasText: service }).first()).toBeVisible();
  await expect(page.getByRole("figure", { name: "Tokens a day" })).toBeVisible();
  await signedIn.shot("status");
  await signedIn.accessible();
  await signedIn.house("open/gate");
});

test("the new-session page and the sign-in page hold nothing that axe calls serious", async ({ client }) => {
  await client.page.goto("/");
  await expect(client.page.getByLabel("API key or token")).toBeVisible();
  await client.shot("sign-in");
  await client.accessible();
  await client.signIn();
  await expect(client.prompt).toBeVisible();
  await client.shot("new");
  await client.accessible();
});
