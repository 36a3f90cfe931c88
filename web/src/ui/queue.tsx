import { useState } from "preact/hooks";
import { cancel, editPrompt, moveTurn } from "../conversation/actions.ts";
import type { TurnView } from "../conversation/rows.ts";
import type { SessionStore } from "../conversation/store.ts";
import type { Turn } from "../gen/pointsman/session/v1/turn_pb.ts";
import { visibleLine } from "../text/visible.ts";
import { Ask, IconButton } from "./controls.tsx";

/** Prompts that wait, in the order in which they will run. */
export function Queue({ store, queue }: { store: SessionStore; queue: TurnView[] }) {
  const [editing, setEditing] = useState<Turn>();
  const turns = store.turns.value;
  return (
    <section class="queue" aria-label="Queue">
      <h2>{queue.length === 1 ? "1 prompt waits" : `${queue.length} prompts wait`}</h2>
      <ol>
        {queue.map((view, index) => {
          const turn = turns.get(view.name);
          const prompt = visibleLine(turn?.prompt ?? "", 160);
          return (
            <li key={view.name}>
              <span class="queue-number">{index + 1}</span>
              <span class="queue-prompt" title={prompt} dir="auto">
                {prompt || "…"}
              </span>
              <span class="queue-actions">
                <IconButton
                  icon="up"
                  label="Move up"
                  disabled={index === 0}
                  onClick={() => moveTurn(store, view.name, index)}
                />
                <IconButton
                  icon="down"
                  label="Move down"
                  disabled={index === queue.length - 1}
                  onClick={() => moveTurn(store, view.name, index + 2)}
                />
                <IconButton icon="edit" label="Edit" disabled={!turn} onClick={() => setEditing(turn)} />
                <IconButton icon="close" label="Cancel this prompt" onClick={() => cancel(view.name)} />
              </span>
            </li>
          );
        })}
      </ol>
      {editing && <EditPrompt store={store} turn={editing} onClose={() => setEditing(undefined)} />}
    </section>
  );
}

export function EditPrompt({
  store,
  turn,
  onClose,
}: {
  store: SessionStore;
  turn: Turn;
  onClose: () => void;
}) {
  return (
    <Ask
      title="Edit the prompt"
      label="Prompt"
      value={turn.prompt}
      action="Save"
      multiline
      required
      onSave={(prompt) => editPrompt(store, turn, prompt)}
      onClose={onClose}
    />
  );
}
