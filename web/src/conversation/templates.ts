import { templates } from "../api/clients.ts";
import type { Session } from "../gen/pointsman/session/v1/session_service_pb.ts";
import type { Template } from "../gen/pointsman/session/v1/template_service_pb.ts";
import { attempt, notify } from "../state/notices.ts";

/** Templates that are read at most; more than anybody chooses from by looking. */
const MOST = 200;

/**
 * The templates that a session of this account can be made from; without an account, all that the key may see. An
 * account's own one hides the one of the same name that is for every account.
 */
export async function readTemplates(account: string, signal: AbortSignal): Promise<Template[]> {
  const answer = await templates.listTemplates({ account, pageSize: MOST }, { signal });
  if (!account) return answer.templates;
  return [...new Map(answer.templates.map((each) => [each.name, each])).values()];
}

/** A template's id, made from what a person calls it; empty when nothing of it can stand in an id. */
export function templateId(title: string): string {
  return title
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 63);
}

/** Makes a template of a session's files, as they are or as a snapshot has them, and of its settings. */
export async function makeTemplate(
  session: Session,
  source: string,
  init: { title: string; description: string; everyAccount: boolean },
  requestId: string,
): Promise<boolean> {
  const answer = await attempt("The template was not made", () =>
    templates.createTemplate({
      template: {
        name: `templates/${templateId(init.title)}`,
        account: init.everyAccount ? "" : session.account,
        title: init.title.trim(),
        description: init.description.trim(),
        preferredModel: session.preferredModel,
        options: session.defaultOptions,
        egressHosts: session.egressHosts,
      },
      source,
      requestId,
    }),
  );
  if (answer) notify("The template is made. New sessions can begin with it.");
  return answer !== undefined;
}

/** Deletes a template. True: it is gone. */
export async function deleteTemplate(template: Template): Promise<boolean> {
  const done = await attempt("The template was not deleted", () =>
    templates.deleteTemplate({ name: template.name, account: template.account }),
  );
  if (done) notify("The template is deleted. Sessions made from it stay.");
  return done !== undefined;
}
