/**
 * What a user of Anthropic's official TypeScript client does with the gateway. Runs in Node and in a page.
 *
 * The provider behind `model` is scripted: it answers by the words of the prompt.
 * Returns one entry for each check: `ok`, or what was seen instead.
 */

const TOOL = {
  name: "add",
  description: "Add two numbers",
  input_schema: {
    type: "object",
    properties: { a: { type: "integer" }, b: { type: "integer" } },
  },
};
const BASH = { type: "bash_20250124", name: "bash" };

export async function run(Anthropic, { base, key, model, browser }) {
  const client = (apiKey) =>
    new Anthropic({
      baseURL: `${base}/llm`,
      apiKey,
      dangerouslyAllowBrowser: browser,
    });
  const ask = (content, more = {}) => ({
    model,
    max_tokens: 50,
    messages: [{ role: "user", content }],
    ...more,
  });
  const own = client(key);
  const results = {};
  const check = async (name, body) => {
    try {
      results[name] = (await body()) ?? "ok";
    } catch (error) {
      results[name] = `${error.name}: ${error.message}`;
    }
  };
  /** The call fails with an error of this class, which has the request's id. */
  const fails = (name, kind, call) =>
    check(name, async () => {
      try {
        await call();
      } catch (error) {
        if (!(error instanceof kind)) throw error;
        return error.requestID ? "ok" : "the error has no request id";
      }
      return "the call succeeded";
    });

  await check("streams text", async () => {
    const stream = own.messages.stream(ask("say"));
    let text = "";
    stream.on("text", (piece) => {
      text += piece;
    });
    const message = await stream.finalMessage();
    if (text !== "Hello there") return text;
    if (message.stop_reason !== "end_turn") return message.stop_reason;
  });
  await check("names the request", async () => {
    const { request_id } = await own.messages.create(ask("say", { stream: true })).withResponse();
    if (!request_id) return "no request id";
  });
  await check("calls tools", async () => {
    const stream = own.messages.stream(ask("tool", { tools: [TOOL] }));
    const message = await stream.finalMessage();
    const call = message.content.find((block) => block.type === "tool_use");
    if (JSON.stringify(call?.input) !== '{"a":17,"b":23}') return JSON.stringify(message);
  });
  await check("offers tools that the client runs", async () => {
    await own.messages.stream(ask("say", { tools: [BASH] })).finalMessage();
  });
  await check("lists and gets models", async () => {
    const names = [];
    for await (const one of own.models.list()) names.push(one.id);
    if (!names.includes("demo/offline")) return names.join();
    const one = await own.models.retrieve("demo/offline");
    if (one.id !== "demo/offline") return one.id;
  });
  await fails("a wrong key", Anthropic.AuthenticationError, () =>
    client("wrong").messages.create(ask("say")),
  );
  await fails("an unknown model", Anthropic.NotFoundError, () =>
    own.messages.create(ask("say", { model: "acme/none" })),
  );
  await fails("an unknown model by its name", Anthropic.NotFoundError, () =>
    own.models.retrieve("acme/none"),
  );
  await fails("an invalid field", Anthropic.BadRequestError, () =>
    own.messages.create(ask("say", { max_tokens: 0 })),
  );
  await fails("a request that the provider refuses", Anthropic.BadRequestError, () =>
    own.messages.create(ask("refuse")),
  );
  await fails("a key that the provider refuses", Anthropic.PermissionDeniedError, () =>
    own.messages.create(ask("forbid")),
  );
  await check("threads are unsupported", async () => {
    try {
      await own.messages.create(ask("say", { thread: { type: "create" } }));
    } catch (error) {
      const code = error.error?.error?.details?.error_code;
      return code === "thread_unsupported_request" ? undefined : String(code);
    }
    return "the call succeeded";
  });
  return results;
}
