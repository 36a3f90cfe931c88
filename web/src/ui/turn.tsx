import { useState } from "preact/hooks";
import { fork } from "../conversation/actions.ts";
import type { Entry } from "../conversation/entries.ts";
import type { TurnView } from "../conversation/rows.ts";
import type { SessionStore } from "../conversation/store.ts";
import { notify } from "../state/notices.ts";
import { go, hrefOf } from "../state/route.ts";
import { copyText } from "../text/clipboard.ts";
import { exactTime } from "../text/format.ts";
import { visible } from "../text/visible.ts";
import { Icon } from "./icons.tsx";
import { Menu } from "./menu.tsx";
import { RowView } from "./row.tsx";
import { TurnFoot } from "./turn-foot.tsx";

/** One line of the conversation. */
export function EntryView({ entry, store }: { entry: Entry; store: SessionStore }) {
  if (entry.kind === "row") return <RowView row={entry.row} />;
  if (entry.kind === "head") return <TurnHead view={entry.turn} store={store} />;
  return <TurnFoot view={entry.turn} store={store} />;
}

/** Prompts longer than this are folded. */
const LONG_PROMPT = 1200;

function TurnHead({ view, store }: { view: TurnView; store: SessionStore }) {
  const turn = store.turns.value.get(view.name);
  const [all, setAll] = useState(false);
  const prompt = turn?.prompt ?? "";
  const long = prompt.length > LONG_PROMPT;
  const id = view.name.split("/").at(-1);
  const link = () => {
    const url = `${location.origin}${location.pathname}${hrefOf({ page: "session", session: store.name, turn: view.name })}`;
    void copyText(url).then((copied) =>
      copied
        ? notify("The link to this turn is copied.")
        : notify("The browser does not allow copying.", "error"),
    );
  };
  return (
    <article class="prompt" id={`turn-${id}`} aria-label="Prompt">
      <div class="prompt-text" dir="auto">
        {turn ? visible(long && !all ? prompt.slice(0, LONG_PROMPT) : prompt) : <span class="skeleton" />}
        {long && (
          <button type="button" class="more" onClick={() => setAll(!all)}>
            {all ? "Show less" : `Show all ${prompt.length.toLocaleString()} characters`}
          </button>
        )}
      </div>
      <Menu label="Turn">
        <button type="button" onClick={link}>
          <Icon name="copy" /> Copy link to this turn
        </button>
        <button type="button" onClick={() => go({ page: "session", session: store.name, panel: "changes" })}>
          <Icon name="changes" /> Show changed files
        </button>
        {view.finished && (
          <button type="button" onClick={() => fork(store.name, view.name)}>
            <Icon name="fork" /> Fork from here
          </button>
        )}
        <p class="menu-note">
          {exactTime(turn?.createTime)}
          <br />
          {turn?.model}
        </p>
      </Menu>
    </article>
  );
}
