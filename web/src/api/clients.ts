import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ModelService } from "../gen/pointsman/llm/v1/model_service_pb.ts";
import { RouterService } from "../gen/pointsman/router/v1/router_service_pb.ts";
import { AccountService } from "../gen/pointsman/session/v1/account_service_pb.ts";
import { SessionService } from "../gen/pointsman/session/v1/session_service_pb.ts";
import { TemplateService } from "../gen/pointsman/session/v1/template_service_pb.ts";
import { WorkspaceService } from "../gen/pointsman/session/v1/workspace_service_pb.ts";
import { SystemService } from "../gen/pointsman/system/v1/system_service_pb.ts";
import { credential } from "../state/credential.ts";

/** Longest that a unary call may take before it counts as failed. */
const UNARY_DEADLINE_MS = 20_000;

const authorize: Interceptor = (next) => (request) => {
  if (credential.value) request.header.set("authorization", `Bearer ${credential.value}`);
  return next(request);
};

const transport = createGrpcWebTransport({
  baseUrl: location.origin,
  interceptors: [authorize],
  defaultTimeoutMs: UNARY_DEADLINE_MS,
});

export const router = createClient(RouterService, transport);
export const sessions = createClient(SessionService, transport);
export const workspace = createClient(WorkspaceService, transport);
export const templates = createClient(TemplateService, transport);
export const accounts = createClient(AccountService, transport);
export const models = createClient(ModelService, transport);
export const system = createClient(SystemService, transport);

/** For streams that end when somebody ends them: no deadline of the call's own. */
export const NO_DEADLINE = 0;
