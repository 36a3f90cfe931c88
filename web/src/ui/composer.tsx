import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { newId } from "../api/ids.ts";
import { PermissionMode } from "../gen/pointsman/session/v1/turn_pb.ts";
import { Spinner } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { ModelSelect } from "./model-select.tsx";

/** The server takes prompts up to this many bytes. */
const PROMPT_BYTES = 1_048_576;

const MODES: [PermissionMode, string, string][] = [
  [
    PermissionMode.ACCEPT_EDITS,
    "Edit freely",
    "Edits files and runs commands in its workspace without asking",
  ],
  [PermissionMode.DEFAULT, "Ask first", "Asks before every tool that changes something"],
  [PermissionMode.PLAN, "Plan only", "Changes nothing"],
  [PermissionMode.BYPASS_PERMISSIONS, "Never ask", "Asks for nothing at all"],
];

export interface ComposerProps {
  value: string;
  onValue: (value: string) => void;
  model: string;
  onModel: (model: string) => void;
  mode: PermissionMode;
  onMode: (mode: PermissionMode) => void;
  /** Sends; true when the prompt is durable. The same prompt keeps its `requestId` until then. */
  onSend: (prompt: string, requestId: string) => Promise<boolean>;
  onStop?: () => void;
  running: boolean;
  autofocus?: boolean;
}

export function Composer(props: ComposerProps) {
  const input = useRef<HTMLTextAreaElement>(null);
  const failed = useRef<{ prompt: string; requestId: string }>(undefined);
  const line = useRef<Promise<void>>(Promise.resolve());
  const latest = useRef(props.value);
  latest.current = props.value;
  const [sending, setSending] = useState(0);
  const tooLong =
    props.value.length > PROMPT_BYTES / 4 && new TextEncoder().encode(props.value).length > PROMPT_BYTES;
  const empty = props.value.trim() === "";

  useLayoutEffect(() => {
    const element = input.current;
    if (!element || CSS.supports("field-sizing", "content")) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [props.value]);
  // With the page, and not a moment after it: what somebody has focused by then stays focused.
  useLayoutEffect(() => {
    // On a phone the keyboard would cover what the reader came for.
    if (props.autofocus && matchMedia("(hover: hover)").matches) input.current?.focus();
  }, []);

  // The field is free at once, and prompts go out one after another. One that fails comes back, and keeps its id as
  // long as it is not changed, so that sending it again cannot make it run twice.
  const send = () => {
    if (empty || tooLong) return;
    const prompt = props.value;
    const requestId = failed.current?.prompt === prompt ? failed.current.requestId : newId();
    props.onValue("");
    setSending((before) => before + 1);
    line.current = line.current.then(async () => {
      const sent = await props.onSend(prompt, requestId);
      setSending((before) => before - 1);
      if (sent) return;
      failed.current = { prompt, requestId };
      props.onValue(latest.current ? `${prompt}\n\n${latest.current}` : prompt);
    });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.isComposing) return;
    const onPhone = !matchMedia("(hover: hover)").matches;
    if (event.shiftKey || (onPhone && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    send();
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <textarea
        id="prompt"
        ref={input}
        rows={1}
        dir="auto"
        aria-label="Prompt"
        placeholder={
          props.running ? "Say what comes next; it waits in the queue" : "Ask, or give it something to do"
        }
        value={props.value}
        onInput={(event) => props.onValue(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      {tooLong && (
        <p class="field-error" role="alert">
          The prompt is longer than 1 MiB. Upload it as a file, and ask for that.
        </p>
      )}
      <div class="composer-bar">
        <ModelSelect value={props.model} onChange={props.onModel} />
        <label class="quiet-select" title={MODES.find(([mode]) => mode === props.mode)?.[2]}>
          <span class="visually-hidden">Permission mode</span>
          <select value={props.mode} onChange={(event) => props.onMode(Number(event.currentTarget.value))}>
            {MODES.map(([mode, name]) => (
              <option key={mode} value={mode}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <span class="grow" />
        {props.running && props.onStop && (
          <button type="button" class="button stop" onClick={props.onStop}>
            <Icon name="stop" size={14} /> Stop
          </button>
        )}
        <button
          type="submit"
          class="button primary send"
          disabled={empty || tooLong}
          aria-label={props.running ? "Add to the queue" : "Send"}
          title={props.running ? "Add to the queue" : "Send"}
        >
          {sending > 0 && empty ? (
            <Spinner label="Sending" />
          ) : (
            <Icon name={props.running ? "add" : "send"} />
          )}
        </button>
      </div>
    </form>
  );
}
