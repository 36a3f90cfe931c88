import { mkdirSync } from "node:fs";
import { AxeBuilder } from "@axe-core/playwright";
import {
  type Browser,
  type BrowserContextOptions,
  test as base,
  expect,
  type Locator,
  type Page,
} from "@playwright/test";

export { expect, type Locator };

export const KEY = process.env.POINTSMAN_KEY ?? "";
const HOUSE = process.env.POINTSMAN_HOUSE ?? "";
/** Serves without a provider; the default of an installation that has no credential. */
export const DEMO = "demo/offline";
/** Git ignores it; the main states, for a person to look at. */
const SCREENSHOTS = new URL("../screenshots/", import.meta.url).pathname;

/** In the page: keeps what notices have said, as each of them goes away after a few seconds. */
function keepNotices(): void {
  const said: string[] = [];
  Object.assign(window, { said });
  new MutationObserver((changes) => {
    const added = changes
      .flatMap((change) => [...change.addedNodes])
      .filter((node) => node instanceof Element);
    const notices = added.flatMap((node) => [node, ...node.querySelectorAll("*")]);
    for (const each of notices) if (each.matches(".notice")) said.push(each.textContent ?? "");
  }).observe(document, { childList: true, subtree: true });
}

/** One page of the client, as a person uses it. */
export class Client {
  readonly page: Page;
  /** An account of its own, so that what one test leaves running does not hold up the next. */
  readonly account = `test-${crypto.randomUUID().slice(0, 8)}`;
  /** Faults of the page itself: exceptions, and what its policy refused. */
  readonly faults: string[] = [];

  /** A client on this page, before it goes anywhere. */
  static async on(page: Page): Promise<Client> {
    await page.addInitScript(keepNotices);
    return new Client(page);
  }

  private constructor(page: Page) {
    this.page = page;
    page.on("pageerror", (error) => this.faults.push(error.message));
    page.on("console", (message) => {
      if (/Content Security Policy|Trusted/i.test(message.text())) this.faults.push(message.text());
    });
  }

  async signIn(key = KEY): Promise<void> {
    await this.page.goto("/");
    await this.page.getByLabel("API key or token").fill(key);
    await this.page.getByRole("button", { name: "Sign in" }).click();
  }

  get prompt(): Locator {
    return this.page.getByRole("textbox", { name: "Prompt" });
  }

  get conversation(): Locator {
    return this.page.getByRole("log", { name: "Conversation" });
  }

  /** Types a prompt and sends it. */
  async say(prompt: string): Promise<void> {
    await this.prompt.fill(prompt);
    await this.prompt.press("Enter");
  }

  /** Starts a session of its own on the scripted model, with this prompt. */
  async start(prompt: string, { model = "groq/scripted", mode = "Edit freely" } = {}): Promise<void> {
    await this.page.getByRole("link", { name: "New session", exact: true }).click();
    await expect(this.page.getByRole("heading", { name: "What should the agent do?" })).toBeVisible();
    if (model === DEMO) await this.page.getByLabel("Model").selectOption(DEMO);
    else await this.chooseModel(model);
    await this.page.getByLabel("Permission mode").selectOption({ label: mode });
    await this.page.getByText("Title and account").click();
    await this.page.getByLabel("Account").fill(this.account);
    await this.say(prompt);
    await expect(this.page).toHaveURL(/#\/sessions\//);
  }

  async chooseModel(model: string): Promise<void> {
    await this.page.getByLabel("Model").selectOption({ label: "Another model…" });
    await this.page.getByLabel(/Provider and name/).fill(model);
    await this.page.getByRole("button", { name: "Use it" }).click();
  }

  /** The turns' ends so far: the line with model, time and tokens. */
  get ends(): Locator {
    return this.page.locator(".turn-foot:not(.running):not(.waiting)");
  }

  /** Waits until so many turns of the session are over. */
  async turns(number: number): Promise<void> {
    await expect(this.ends).toHaveCount(number, { timeout: 60_000 });
  }

  /** Waits until a notice has said this, also when it has gone away meanwhile. */
  async told(text: string): Promise<void> {
    const said = () => this.page.evaluate(() => (window as unknown as { said: string[] }).said.join("\n"));
    await expect.poll(said).toContain(text);
  }

  async shot(name: string): Promise<void> {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: `${SCREENSHOTS}${name}.png`, animations: "disabled" });
  }

  /** How many seconds the page's own thread computed while something went on: others' load does not count. */
  async computing(during: () => Promise<void>): Promise<number> {
    const devTools = await this.page.context().newCDPSession(this.page);
    await devTools.send("Performance.enable", { timeDomain: "threadTicks" });
    const soFar = async () => {
      const { metrics } = await devTools.send("Performance.getMetrics");
      return metrics.find((each) => each.name === "TaskDuration")?.value ?? Number.NaN;
    };
    const before = await soFar();
    await during();
    return (await soFar()) - before;
  }

  /** Fails on anything that axe calls serious or critical. */
  async accessible(): Promise<void> {
    // Colours on their way from one to another have no contrast of their own.
    await this.page.evaluate(() => {
      const passing = document
        .getAnimations()
        .filter((each) => each.effect?.getComputedTiming().endTime !== Number.POSITIVE_INFINITY);
      return Promise.allSettled(passing.map((each) => each.finished)).then(() => undefined);
    });
    const { violations } = await new AxeBuilder({ page: this.page }).analyze();
    const serious = violations.filter((each) => each.impact === "serious" || each.impact === "critical");
    expect(serious.map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" | ")}`)).toEqual(
      [],
    );
  }

  /** Does something to the house: `open/<gate>`, `kill/<service>`, `kill/<service>?seconds=3`. */
  async house(what: string): Promise<void> {
    const status = async () => (await fetch(`${HOUSE}/control/${what}`, { method: "POST" })).status;
    await expect.poll(status, { message: what }).toBe(200);
  }
}

/** Another page on its own, such as a second tab or a phone. */
export async function another(browser: Browser, options: BrowserContextOptions = {}): Promise<Client> {
  return Client.on(await (await browser.newContext(options)).newPage());
}

export const test = base.extend<{ client: Client; signedIn: Client }>({
  client: async ({ page }, use) => {
    const client = await Client.on(page);
    await use(client);
    expect(client.faults).toEqual([]);
  },
  signedIn: async ({ client }, use) => {
    await client.signIn();
    await expect(client.prompt).toBeVisible();
    await use(client);
  },
});
