import { DEMO, expect, test } from "./client.ts";

test("a template is made of a session's files, a new session begins with them, and it is deleted again", async ({
  signedIn,
}) => {
  const { page } = signedIn;
  const title = `Greeting ${signedIn.account}`;
  await signedIn.start("Create hello.py that prints hello world, then run it", { model: DEMO });
  await signedIn.turns(1);
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByRole("link", { name: "Snapshots", exact: true }).click();
  await page.getByRole("button", { name: "Make a template" }).click();
  await page.getByLabel("Title").fill(title);
  await page.getByLabel("What it is for").fill("A greeting, ready to be changed.");
  await signedIn.shot("make-template");
  await signedIn.accessible();
  await page.getByRole("button", { name: "Make it" }).click();
  await signedIn.told("The template is made.");

  // The same name again is refused in words, and what was written is still there.
  await page.getByRole("button", { name: "Make a template" }).click();
  await page.getByLabel("Title").fill(title);
  await page.getByRole("button", { name: "Make it" }).click();
  await signedIn.told("The template was not made");
  await expect(page.getByLabel("Title")).toHaveValue(title);
  await page.keyboard.press("Escape");
  await expect(page.getByRole("dialog")).toBeHidden();

  await page.getByRole("link", { name: "New session", exact: true }).click();
  const choice = page.getByRole("region", { name: "Templates" }).getByRole("button", { name: title });
  await choice.click();
  await expect(choice).toHaveAttribute("aria-pressed", "true");
  await expect(page.getByText("A greeting, ready to be changed.")).toBeVisible();
  await signedIn.shot("new-template");
  await signedIn.accessible();
  await signedIn.say("List the files in the workspace");
  await expect(page).toHaveURL(/#\/sessions\//);
  await signedIn.turns(1);
  await expect(signedIn.conversation).toContainText("hello.py");
  await page.getByRole("button", { name: "Workspace" }).click();
  await expect(
    page.getByRole("region", { name: "Files" }).getByRole("link", { name: "hello.py" }),
  ).toBeVisible();
  await page.getByRole("link", { name: "Details", exact: true }).click();
  await expect(page.getByRole("region", { name: "Details" })).toContainText(signedIn.account);
  await expect(page.getByRole("region", { name: "Details" })).toContainText("runs one turn at once");
  await signedIn.shot("details");

  await page.getByRole("link", { name: "New session", exact: true }).click();
  await choice.click();
  await page.getByRole("button", { name: "Delete it" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(choice).toBeHidden();
});

test("a snapshot becomes a new session, and the old one stays as it is", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("Create hello.py that prints hello world, then run it", { model: DEMO });
  await signedIn.turns(1);
  const origin = page.url();
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByRole("link", { name: "Snapshots", exact: true }).click();
  await page.getByRole("button", { name: "Take a snapshot" }).click();
  await page.getByLabel("What is it for?").fill("First try");
  await page.getByRole("button", { name: "Take it" }).click();
  await page.getByLabel("More for First try").click();
  await page.getByRole("button", { name: "New session with these files" }).click();
  await expect(page).not.toHaveURL(new RegExp(origin.split("/").at(-1) ?? ""));
  await expect(
    page.getByRole("region", { name: "Files" }).getByRole("link", { name: "hello.py" }),
  ).toBeVisible();
  await expect(page.getByText("Nothing said yet")).toBeVisible();
});
