import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { copyText } from "../text/clipboard.ts";
import { Icon, type IconName } from "./icons.tsx";

/** A button that is only an icon; `label` is what it says to those who cannot see it, and on hover. */
export function IconButton(props: {
  icon: IconName;
  label: string;
  onClick: () => void;
  disabled?: boolean;
  pressed?: boolean;
  class?: string;
}) {
  return (
    <button
      type="button"
      class={`icon-button ${props.class ?? ""}`}
      aria-label={props.label}
      title={props.label}
      aria-pressed={props.pressed}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      <Icon name={props.icon} />
    </button>
  );
}

export function CopyButton({ text, label = "Copy" }: { text: () => string; label?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => copyText(text()).then(setCopied);
  return (
    <button type="button" class="copy" onClick={copy} aria-label={label}>
      <Icon name={copied ? "check" : "copy"} size={14} />{" "}
      <span aria-live="polite">{copied ? "Copied" : "Copy"}</span>
    </button>
  );
}

/** A modal over the page: focus stays inside and then goes back where it was; Escape closes it. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current?.showModal();
    const giveBack = () => {
      if (document.activeElement === document.body && before instanceof HTMLElement) before.focus();
    };
    // Once the dialog is gone, which until then keeps focus from everything else.
    return () => queueMicrotask(giveBack);
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: a click beside the dialog closes it, as Escape does by itself
    <dialog
      ref={element}
      aria-label={title}
      onClose={onClose}
      onClick={(event) => event.target === element.current && onClose()}
    >
      <div class="dialog-body">
        <h2>{title}</h2>
        {children}
      </div>
    </dialog>
  );
}

/** Asks before something that cannot be taken back. */
export function Confirm(props: {
  title: string;
  text: string;
  action: string;
  onConfirm: () => void;
  onClose: () => void;
}) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <p>{props.text}</p>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={props.onClose}>
          Keep it
        </button>
        <button
          type="button"
          class="button danger"
          onClick={() => {
            props.onClose();
            props.onConfirm();
          }}
        >
          {props.action}
        </button>
      </div>
    </Dialog>
  );
}

/** Asks for one line or one text. */
export function Ask(props: {
  title: string;
  label: string;
  value: string;
  action: string;
  multiline?: boolean;
  required?: boolean;
  onSave: (value: string) => void;
  onClose: () => void;
}) {
  const id = useId();
  const [value, setValue] = useState(props.value);
  const save = (event: Event) => {
    event.preventDefault();
    if (props.required && !value.trim()) return;
    props.onClose();
    props.onSave(value);
  };
  const onInput = (event: { currentTarget: { value: string } }) => setValue(event.currentTarget.value);
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form onSubmit={save}>
        <label class="field" for={id}>
          <span>{props.label}</span>
          {props.multiline ? (
            <textarea
              id={id}
              rows={6}
              value={value}
              onInput={onInput}
              autofocus
              onKeyDown={(event) => (event.ctrlKey || event.metaKey) && event.key === "Enter" && save(event)}
            />
          ) : (
            <input id={id} value={value} onInput={onInput} autofocus />
          )}
        </label>
        <div class="dialog-actions">
          <button type="button" class="button" onClick={props.onClose}>
            Cancel
          </button>
          <button type="submit" class="button primary" disabled={props.required && !value.trim()}>
            {props.action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** A page or panel with nothing in it, and what to do about that. */
export function Empty({
  icon,
  title,
  children,
}: {
  icon: IconName;
  title: string;
  children?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <Icon name={icon} size={28} />
      <p class="empty-title">{title}</p>
      {children && <div class="empty-text">{children}</div>}
    </div>
  );
}

/** A page or panel that could not be read. */
export function Broken({ title, text, onRetry }: { title: string; text: string; onRetry?: () => void }) {
  return (
    <div class="empty broken" role="alert">
      <Icon name="warning" size={28} />
      <p class="empty-title">{title}</p>
      <div class="empty-text">{text}</div>
      {onRetry && (
        <button type="button" class="button" onClick={onRetry}>
          <Icon name="retry" /> Try again
        </button>
      )}
    </div>
  );
}

export function Spinner({ label }: { label: string }) {
  return <span class="spinner" role="status" aria-label={label} />;
}
