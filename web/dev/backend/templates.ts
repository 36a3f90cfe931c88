import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { AccountService } from "../../src/gen/pointsman/session/v1/account_service_pb.ts";
import {
  type Template,
  TemplateSchema,
  TemplateService,
} from "../../src/gen/pointsman/session/v1/template_service_pb.ts";
import { fail, find, world } from "./registry.ts";
import type { ScriptedFile } from "./types.ts";

const templates: { record: Template; files: ReadonlyMap<string, ScriptedFile> }[] = [];

/** The files of a template or snapshot; none when neither is asked for. */
export function filesOf(template: string, snapshot: string): ReadonlyMap<string, ScriptedFile> {
  if (template) {
    const found = templates.find((each) => each.record.name === template);
    if (!found) throw fail(Code.NotFound, "TEMPLATE_NOT_FOUND", `There is no template ${template}.`);
    return found.files;
  }
  if (!snapshot) return new Map();
  return find(snapshot).snapshots.find((each) => each.name === snapshot)?.files ?? new Map();
}

/** Templates, and accounts that run one turn at once. */
export function serveTemplates(connect: ConnectRouter): void {
  connect.service(TemplateService, {
    createTemplate({ template, source }) {
      if (templates.some((each) => each.record.name === template?.name))
        throw fail(Code.AlreadyExists, "TEMPLATE_EXISTS", `There is a template ${template?.name} already.`);
      const files = new Map(source.includes("/snapshots/") ? filesOf("", source) : find(source).files);
      const sizeBytes = [...files.values()].reduce((sum, file) => sum + BigInt(file.data.length), 0n);
      const record = template ?? create(TemplateSchema);
      record.sizeBytes = sizeBytes;
      record.createTime = timestampNow();
      templates.push({ record, files });
      return { template: record };
    },
    listTemplates: ({ account }) => ({
      templates: templates
        .map((each) => each.record)
        .filter((record) => !account || !record.account || record.account === account),
    }),
    deleteTemplate({ name }) {
      const index = templates.findIndex((each) => each.record.name === name);
      if (index < 0) throw fail(Code.NotFound, "TEMPLATE_NOT_FOUND", `There is no template ${name}.`);
      templates.splice(index, 1);
      return {};
    },
  });
  connect.service(AccountService, {
    getAccount: ({ name }) => ({ account: { name, effectiveMaxConcurrentTurns: 1 } }),
    listAccounts: () => ({
      accounts: [...new Set([...world.values()].map((session) => session.record.account))].map((account) => ({
        name: `accounts/${account}`,
        effectiveMaxConcurrentTurns: 2,
        runningTurns: [...world.values()].filter(
          (session) => session.record.account === account && session.record.runningTurn,
        ).length,
      })),
    }),
  });
}
