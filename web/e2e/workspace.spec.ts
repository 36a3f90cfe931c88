import { readFile } from "node:fs/promises";
import { expect, test } from "./client.ts";

/** A red square of eight by eight pixels. */
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC",
  "base64",
);

test("files are dropped, shown, downloaded and deleted", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:markdown");
  await signedIn.turns(1);
  await page.getByRole("button", { name: "Workspace" }).click();
  await expect(page.getByText("No files yet")).toBeVisible();

  const data = await page.evaluateHandle((image) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File(["First line\nSecond <b>line</b>\n"], "notes.txt", { type: "text/plain" }));
    transfer.items.add(
      new File([Uint8Array.from(atob(image), (each) => each.charCodeAt(0))], "red.png", {
        type: "image/png",
      }),
    );
    return transfer;
  }, PNG.toString("base64"));
  await page.getByRole("region", { name: "Files" }).dispatchEvent("drop", { dataTransfer: data });
  await signedIn.told("2 files are in the workspace.");
  await signedIn.shot("files");
  await signedIn.accessible();

  await page.getByRole("link", { name: "notes.txt" }).click();
  await expect(page.getByRole("region", { name: "Contents of notes.txt" })).toContainText(
    "Second <b>line</b>",
  );
  const downloading = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download" }).click();
  const path = await (await downloading).path();
  expect(await readFile(path, "utf8")).toBe("First line\nSecond <b>line</b>\n");

  await page.getByRole("link", { name: "Back to the files" }).click();
  await page.getByRole("link", { name: "red.png" }).click();
  await expect
    .poll(() =>
      page.getByRole("img", { name: "red.png" }).evaluate((image: HTMLImageElement) => image.naturalWidth),
    )
    .toBe(8);
  await signedIn.shot("image");

  await page.getByRole("link", { name: "Back to the files" }).click();
  await page.getByRole("link", { name: "notes.txt" }).hover();
  await page.getByRole("button", { name: "Delete notes.txt" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("link", { name: "notes.txt" })).toBeHidden();
});

test("an SVG that carries a script is a picture and nothing else", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:markdown");
  await signedIn.turns(1);
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByLabel("Files to upload").setInputFiles({
    name: "evil.svg",
    mimeType: "image/svg+xml",
    buffer: Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" onload="window.pwned=1"><script>parent.pwned=2</script><rect width="20" height="20"/></svg>',
    ),
  });
  await page.getByRole("link", { name: "evil.svg" }).click();
  await expect(page.getByRole("img", { name: "evil.svg" })).toBeVisible();
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
});

test("a file over the limit is refused before it is sent, with the limit", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:markdown");
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByLabel("Files to upload").setInputFiles({
    name: "big.bin",
    mimeType: "application/octet-stream",
    buffer: Buffer.alloc(3 * 1024 * 1024 + 1),
  });
  await signedIn.told("Files up to 3 MB");
});

test("changes since a turn", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:edit");
  await signedIn.turns(1);
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByRole("link", { name: "Changes", exact: true }).click();
  const changes = page.getByRole("region", { name: "Changes", exact: true });
  await expect(changes).toContainText("app.py");
  await expect(changes).toContainText("print('two')");
  await signedIn.shot("changes");
});

test("a snapshot brings the files back", async ({ signedIn }) => {
  const { page } = signedIn;
  await signedIn.start("play:edit");
  await signedIn.turns(1);
  await page.getByRole("button", { name: "Workspace" }).click();
  await page.getByRole("link", { name: "Snapshots", exact: true }).click();
  await page.getByRole("button", { name: "Take a snapshot" }).click();
  await page.getByLabel("What is it for?").fill("Before the worst");
  await page.getByRole("button", { name: "Take it" }).click();
  await expect(page.getByText("Before the worst")).toBeVisible();
  await signedIn.shot("snapshots");
  await page.getByRole("link", { name: "Files", exact: true }).click();
  await page.getByRole("link", { name: "app.py" }).hover();
  await page.getByRole("button", { name: "Delete app.py" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByText("No files yet")).toBeVisible();
  await page.getByRole("link", { name: "Snapshots", exact: true }).click();
  await page.getByRole("button", { name: "Restore" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Restore" }).click();
  await signedIn.told("The workspace is as it was.");
  await page.getByRole("link", { name: "Files", exact: true }).click();
  await expect(page.getByRole("link", { name: "app.py" })).toBeVisible();
});
