import { useMemo, useState } from "preact/hooks";
import { newId } from "../../api/ids.ts";
import { makeTemplate, templateId } from "../../conversation/templates.ts";
import type { Session } from "../../gen/pointsman/session/v1/session_service_pb.ts";
import { visibleLine } from "../../text/visible.ts";
import { Dialog } from "../controls.tsx";

/** Asks what a template is to be called. `source` is the session, or one of its snapshots. */
export function MakeTemplate(props: {
  session: Session;
  source: string;
  title: string;
  onClose: () => void;
}) {
  const { session, source, onClose } = props;
  const [title, setTitle] = useState(props.title);
  const [description, setDescription] = useState("");
  const [everyAccount, setEveryAccount] = useState(false);
  const [busy, setBusy] = useState(false);
  // What is asked again unchanged, after an answer that did not arrive, is the same request.
  const requestId = useMemo(newId, [title, description, everyAccount]);
  const id = templateId(title);
  const save = async (event: Event) => {
    event.preventDefault();
    if (!id || busy) return;
    setBusy(true);
    if (await makeTemplate(session, source, { title, description, everyAccount }, requestId)) onClose();
    setBusy(false);
  };
  return (
    <Dialog title="Make a template" onClose={onClose}>
      <form onSubmit={save} class="form">
        <p class="hint">
          New sessions can begin with{" "}
          {source === session.name ? "these files as they are now" : "the files of this snapshot"} and with
          this session's settings. Later changes here do not change the template.
        </p>
        <label class="field">
          <span>Title</span>
          <input value={title} autofocus onInput={(event) => setTitle(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>What it is for (may be empty)</span>
          <input value={description} onInput={(event) => setDescription(event.currentTarget.value)} />
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={everyAccount}
            onChange={(event) => setEveryAccount(event.currentTarget.checked)}
          />
          <span>For every account, not only for {visibleLine(session.account, 63)}</span>
        </label>
        <p class="hint">
          {id ? (
            <>
              Programs call it <code>templates/{id}</code>.
            </>
          ) : (
            "The title needs a letter or a digit."
          )}
        </p>
        <div class="dialog-actions">
          <button type="button" class="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={!id || busy}>
            Make it
          </button>
        </div>
      </form>
    </Dialog>
  );
}
