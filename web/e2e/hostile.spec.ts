import { expect, test } from "./client.ts";

test("markup, script links, terminal codes and reordering characters are shown, not obeyed", async ({
  signedIn,
}) => {
  const { page } = signedIn;
  await signedIn.start("play:hostile");
  await expect(signedIn.conversation).toContainText("harmless after all");
  await signedIn.turns(1);
  await signedIn.conversation.getByText("Bash", { exact: true }).click();
  await expect(signedIn.conversation.getByRole("region", { name: "Output" })).toContainText(
    "<img src=x onerror=window.pwned=9> ⟨U+202E⟩dlrow",
  );
  await expect(signedIn.conversation).toContainText('<img src=x onerror="window.pwned=1">');
  await expect(signedIn.conversation).toContainText("red and ⟨U+202E⟩evil⟨U+202C⟩ bidi");
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  expect(await page.locator("main img, main iframe, main script, main object, main embed").count()).toBe(0);
  const links = await signedIn.conversation
    .locator("a")
    .evaluateAll((all) => all.map((link) => (link as HTMLAnchorElement).protocol));
  expect(new Set(links)).toEqual(new Set(["https:"]));
  await signedIn.shot("hostile");
});

test("the page's policy refuses markup and inline script whoever asks for them", async ({
  page,
  baseURL,
}) => {
  const answer = await page.goto(baseURL ?? "/");
  const policy = answer?.headers()["content-security-policy"] ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("frame-ancestors 'none'");
  const refused = await page.evaluate(() => {
    try {
      document.body.innerHTML = "<b>x</b>";
      return "";
    } catch (error) {
      return String(error);
    }
  });
  expect(refused).toContain("TrustedHTML");
  const handler = await page.evaluate(() => {
    try {
      document.body.setAttribute("onclick", "window.pwned = 1");
      document.body.click();
      return "";
    } catch (error) {
      return String(error);
    }
  });
  expect(handler).toContain("TrustedScript");
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
});

for (const [scene, what] of [
  ["line", "1,048,576 characters in 1 line"],
  ["lines", "in 100,000 lines"],
] as const) {
  test(`an answer of ${what} is shown, and the page stays responsive`, async ({ signedIn }) => {
    await signedIn.start("play:markdown");
    await signedIn.turns(1);
    const seconds = await signedIn.computing(async () => {
      await signedIn.say(`play:${scene}`);
      await expect(signedIn.conversation).toContainText(what, { timeout: 60_000 });
      await signedIn.turns(2);
    });
    console.log(`${what}: the page computed for ${seconds.toFixed(2)} s`);
    expect(seconds).toBeLessThan(5);
    await signedIn.prompt.fill("still here");
    await expect(signedIn.prompt).toHaveValue("still here");
    await signedIn.shot(`hostile-${scene}`);
  });
}
