import Anthropic from "@anthropic-ai/sdk";
import { run } from "./checks.mjs";

const { BASE: base, KEY: key, MODEL: model } = process.env;
console.log(JSON.stringify(await run(Anthropic, { base, key, model, browser: false })));
