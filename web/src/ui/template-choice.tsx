import { useEffect, useState } from "preact/hooks";
import { deleteTemplate, readTemplates } from "../conversation/templates.ts";
import type { Template } from "../gen/pointsman/session/v1/template_service_pb.ts";
import { bytes } from "../text/format.ts";
import { visible, visibleLine } from "../text/visible.ts";
import { Confirm } from "./controls.tsx";
import { Icon } from "./icons.tsx";
import { useReading } from "./reading.ts";

/** How long a person types an account's name before its templates are asked for. */
const TYPING_MS = 300;

/** What a new session can begin with. Nothing at all while there is no template, or where they cannot be read. */
export function TemplateChoice(props: {
  account: string;
  chosen: Template | undefined;
  onChoose: (template: Template | undefined) => void;
}) {
  const account = useSettled(props.account.trim().toLowerCase());
  const { value, again } = useReading((signal) => readTemplates(account, signal), [account]);
  const [deleting, setDeleting] = useState<Template>();
  const { chosen, onChoose } = props;
  const there = chosen && value?.some((each) => isSame(each, chosen));
  useEffect(() => {
    if (chosen && value && !there) onChoose(undefined);
  }, [value, chosen]);
  if (!value?.length) return null;
  const remove = async (template: Template) => {
    if (!(await deleteTemplate(template))) return;
    onChoose(undefined);
    again();
  };
  return (
    <section class="templates" aria-label="Templates">
      <h2>Begin with a template</h2>
      <ul class="examples">
        {value.map((template) => {
          const pressed = chosen !== undefined && isSame(template, chosen);
          return (
            <li key={`${template.account}/${template.name}`}>
              <button
                type="button"
                class="example template"
                aria-pressed={pressed}
                onClick={() => onChoose(pressed ? undefined : template)}
              >
                <Icon name={pressed ? "check" : "template"} size={14} />
                {titleOf(template)}
                {!account && template.account && template.account !== "default" && (
                  <small>{visibleLine(template.account, 40)}</small>
                )}
              </button>
            </li>
          );
        })}
      </ul>
      {chosen && there && (
        <p class="hint">
          {visible(chosen.description || "Files and settings of another session.")}{" "}
          {chosen.sizeBytes > 0n && `${bytes(chosen.sizeBytes)} of files. `}
          <button type="button" class="link" onClick={() => setDeleting(chosen)}>
            Delete it
          </button>
        </p>
      )}
      {deleting && (
        <Confirm
          title={`Delete the template ${titleOf(deleting)}?`}
          text="No new session can begin with it. Sessions that did stay as they are."
          action="Delete"
          onConfirm={() => void remove(deleting)}
          onClose={() => setDeleting(undefined)}
        />
      )}
    </section>
  );
}

function isSame(one: Template, other: Template): boolean {
  return one.name === other.name && one.account === other.account;
}

function titleOf(template: Template): string {
  return visibleLine(template.title, 80) || visibleLine(template.name.replace("templates/", ""));
}

/** A value once it has stopped changing. */
function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), TYPING_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}
