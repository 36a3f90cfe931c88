import { useState } from "preact/hooks";
import type { Model } from "../gen/pointsman/llm/v1/model_service_pb.ts";
import { models } from "../state/models.ts";
import { dollars } from "../text/format.ts";
import { Ask } from "./controls.tsx";

const OTHER = "\u0000other";

/** All models that can be asked for, by provider; those without a credential are shown, and say what they wait for. */
export function ModelSelect({ value, onChange }: { value: string; onChange: (model: string) => void }) {
  const [asking, setAsking] = useState(false);
  const known = models.value?.models ?? [];
  const wildcards = models.value?.wildcards ?? [];
  const providers = [...new Set(known.map((model) => model.provider))];
  const current = known.find((model) => model.name === value);
  const choose = (event: { currentTarget: HTMLSelectElement }) => {
    const chosen = event.currentTarget.value;
    if (chosen !== OTHER) return onChange(chosen);
    event.currentTarget.value = value;
    setAsking(true);
  };
  return (
    <>
      <label class="quiet-select" title={current ? aboutModel(current) : value || "Model"}>
        <span class="visually-hidden">Model</span>
        <select value={value} onChange={choose}>
          {!current && <option value={value}>{value || "Default model"}</option>}
          {providers.map((provider) => (
            <optgroup key={provider} label={provider}>
              {known
                .filter((model) => model.provider === provider)
                .map((model) => (
                  <option key={model.name} value={model.name} disabled={!model.available}>
                    {nameOf(model)}
                  </option>
                ))}
            </optgroup>
          ))}
          {wildcards.length > 0 && <option value={OTHER}>Another model…</option>}
        </select>
      </label>
      {asking && (
        <Ask
          title="Another model"
          label={`Provider and name, out of ${wildcards.join(", ")}`}
          value={current ? "" : value}
          action="Use it"
          required
          onSave={(name) => onChange(name.trim())}
          onClose={() => setAsking(false)}
        />
      )}
    </>
  );
}

function nameOf(model: Model): string {
  const name = model.displayName || model.name;
  return model.available ? name : `${name} — needs ${model.missingCredential || "a credential"}`;
}

/** What there is to say about a model beside its name. */
function aboutModel(model: Model): string {
  return [model.description || model.name, priceOf(model)].filter(Boolean).join(" · ");
}

function priceOf(model: Model): string {
  if (!model.priced) return "price unknown";
  const { inputPricePerMillionUsd: read, outputPricePerMillionUsd: written } = model;
  return read || written
    ? `${dollars(read) || "$0"} in, ${dollars(written) || "$0"} out per million tokens`
    : "";
}
