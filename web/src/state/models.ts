import { signal } from "@preact/signals";
import { models as client } from "../api/clients.ts";
import type { Model } from "../gen/pointsman/llm/v1/model_service_pb.ts";

/** The models of the installation; undefined until they are read. */
export const models = signal<{ models: Model[]; wildcards: string[] } | undefined>(undefined);

let reading: Promise<void> | undefined;

/** Reads the models once for the tab; a failure lets the next caller try again. */
export function readModels(): Promise<void> {
  reading ??= client
    .listModels({ pageSize: 1000 })
    .then((answer) => {
      models.value = { models: answer.models, wildcards: answer.wildcards };
    })
    .finally(() => {
      if (!models.value) reading = undefined;
    });
  return reading;
}

/** The model that a new session starts with. */
export function defaultModel(): string {
  const list = models.value?.models ?? [];
  return (list.find((model) => model.isDefault) ?? list.find((model) => model.available))?.name ?? "";
}

/** The choice for a session as this browser remembers it; the server's own memory goes first. */
export function rememberedModel(session: string): string {
  return localStorage.getItem(`model_${idOf(session)}`) ?? "";
}

export function rememberModel(session: string, model: string): void {
  localStorage.setItem(`model_${idOf(session)}`, model);
}

function idOf(session: string): string {
  return session.replace("sessions/", "");
}
