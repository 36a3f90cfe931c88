import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { useState } from "preact/hooks";
import { decide } from "../conversation/actions.ts";
import type { Permission } from "../conversation/rows.ts";
import { PermissionDecision } from "../gen/pointsman/session/v1/event_pb.ts";
import { visible, visibleLine } from "../text/visible.ts";
import { Expiry } from "./expiry.tsx";
import { Icon } from "./icons.tsx";

interface Question {
  question: string;
  header: string;
  multiSelect: boolean;
  options: { label: string; description: string }[];
}

/** A question of the agent with its choices; “Something else” is always one. */
export function QuestionCard({ permission, more }: { permission: Permission; more: string }) {
  const questions = questionsOf(permission.request.input);
  const [chosen, setChosen] = useState<string[][]>(() => questions.map(() => []));
  const [other, setOther] = useState<string[]>(() => questions.map(() => ""));
  const [busy, setBusy] = useState(false);
  const answers = questions.map((_, index) =>
    [...(chosen[index] ?? []), ...(other[index]?.trim() ? [other[index].trim()] : [])].join(", "),
  );
  const complete = answers.length > 0 && answers.every((answer) => answer !== "");

  const toggle = (index: number, label: string) => {
    const before = chosen[index] ?? [];
    const after = questions[index]?.multiSelect
      ? before.includes(label)
        ? before.filter((each) => each !== label)
        : [...before, label]
      : [label];
    setChosen(chosen.map((each, at) => (at === index ? after : each)));
    if (!questions[index]?.multiSelect) setOther(other.map((each, at) => (at === index ? "" : each)));
  };
  const write = (index: number, value: string) => {
    setOther(other.map((each, at) => (at === index ? value : each)));
    if (value && !questions[index]?.multiSelect)
      setChosen(chosen.map((each, at) => (at === index ? [] : each)));
  };
  const answer = async (decision: PermissionDecision) => {
    setBusy(true);
    const input: JsonObject = {
      ...permission.request.input,
      answers: Object.fromEntries(questions.map((each, index) => [each.question, answers[index] ?? ""])),
    };
    const allowed = decision === PermissionDecision.ALLOW;
    if (
      !(await decide(
        permission,
        decision,
        allowed ? "" : "The user does not want to answer.",
        allowed ? input : undefined,
      ))
    )
      setBusy(false);
  };

  return (
    <section class="card question" aria-label="Question" aria-live="polite">
      <header>
        <Icon name="question" />
        <h2>The agent asks</h2>
        <span class="card-more">{more}</span>
        <Expiry permission={permission} />
      </header>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (complete) void answer(PermissionDecision.ALLOW);
        }}
      >
        {questions.map((each, index) => (
          <fieldset key={each.question}>
            <legend>{visible(each.question)}</legend>
            {each.options.map((option) => (
              <label key={option.label} class="choice">
                <input
                  type={each.multiSelect ? "checkbox" : "radio"}
                  name={`question-${index}`}
                  checked={chosen[index]?.includes(option.label) ?? false}
                  onChange={() => toggle(index, option.label)}
                />
                <span>
                  <strong>{visibleLine(option.label)}</strong>{" "}
                  {option.description && <small>{visibleLine(option.description, 400)}</small>}
                </span>
              </label>
            ))}
            <input
              class="choice-other"
              aria-label={`Something else: ${visibleLine(each.header || each.question)}`}
              placeholder="Something else"
              value={other[index] ?? ""}
              onInput={(event) => write(index, event.currentTarget.value)}
            />
          </fieldset>
        ))}
        <div class="card-actions">
          <button type="submit" class="button primary" disabled={busy || !complete}>
            Answer
          </button>
          <button
            type="button"
            class="button"
            disabled={busy}
            onClick={() => answer(PermissionDecision.DENY)}
          >
            Do not answer
          </button>
        </div>
      </form>
    </section>
  );
}

/** The questions in a tool's input, whatever shape a model has given it. */
export function questionsOf(input: JsonObject | undefined): Question[] {
  return list(input?.questions).map((each) => ({
    question: text(each.question) || "What should it do?",
    header: text(each.header),
    multiSelect: each.multiSelect === true,
    options: list(each.options)
      .map((option) => ({ label: text(option.label), description: text(option.description) }))
      .filter((option) => option.label),
  }));
}

function list(value: JsonValue | undefined): JsonObject[] {
  return Array.isArray(value)
    ? value.filter(
        (each): each is JsonObject => typeof each === "object" && each !== null && !Array.isArray(each),
      )
    : [];
}

function text(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}
