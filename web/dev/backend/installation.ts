import { timestampNow } from "@bufbuild/protobuf/wkt";
import type { ConnectRouter } from "@connectrpc/connect";
import { ModelService, UsageDimension } from "../../src/gen/pointsman/llm/v1/model_service_pb.ts";
import { SystemService } from "../../src/gen/pointsman/system/v1/system_service_pb.ts";

/** Models, their use, and how the services are. */
export function serveInstallation(connect: ConnectRouter): void {
  connect.service(ModelService, {
    listModels: () => ({
      models: [
        {
          name: "demo/offline",
          displayName: "Demo model",
          provider: "demo",
          available: true,
          priced: true,
          supportsTools: true,
          isDefault: true,
          description: "Works offline; does sums and small file tasks.",
        },
        {
          name: "anthropic/claude-sonnet-5",
          displayName: "Claude Sonnet 5",
          provider: "anthropic",
          available: true,
          priced: true,
          supportsTools: true,
          contextWindow: 200000n,
          inputPricePerMillionUsd: 3,
          outputPricePerMillionUsd: 15,
        },
        {
          name: "groq/llama-3.3-70b-versatile",
          displayName: "Llama 3.3 70B",
          provider: "groq",
          available: false,
          missingCredential: "GROQ_API_KEY",
          supportsTools: true,
        },
      ],
      wildcards: ["groq/*", "openrouter/*", "anthropic/*"],
    }),
    getUsage(request) {
      if (!request.groupBy.includes(UsageDimension.DAY))
        return {
          rows: [
            {
              usage: { inputTokens: 120000n, outputTokens: 32000n, costUsd: 1.93, modelCalls: 340 },
              failedCalls: 7n,
              retries: 12n,
            },
          ],
        };
      const rows = Array.from({ length: 14 }, (_, index) => {
        const day = new Date(Date.now() - (13 - index) * 86_400_000).toISOString().slice(0, 10);
        const scale = 1 + Math.sin(index * 1.7) * 0.6 + index / 9;
        return ["demo/offline", "anthropic/claude-sonnet-5"].map((model, other) => ({
          day,
          model,
          failedCalls: BigInt(index % 5 === 3 ? 4 : 0),
          retries: 1n,
          usage: {
            inputTokens: BigInt(Math.round(42000 * scale * (other + 0.5))),
            outputTokens: BigInt(Math.round(9000 * scale)),
            costUsd: other * 0.21 * scale,
            modelCalls: Math.round(20 * scale),
          },
        }));
      }).flat();
      return { rows };
    },
  });
  connect.service(SystemService, {
    getHealth: () => ({
      status: "healthy",
      timestamp: timestampNow(),
      services: ["router", "session", "runner", "llm-proxy"].map((service) => ({
        service,
        status: "healthy",
        timestamp: timestampNow(),
      })),
    }),
    getDebug: () => ({
      services: ["router", "session", "runner", "llm-proxy"].map((service, index) => ({
        service,
        uptime: { seconds: BigInt(86400 + index * 100) },
        pid: 100 + index,
        memoryBytes: BigInt((index + 1) * 60_000_000),
        version: "0.1.0",
      })),
    }),
  });
}
