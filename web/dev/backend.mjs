// Starts the scripted backend: `npm run backend`, then `npm run dev`, or open http://localhost:8099 after a build.
// Its scripts are TypeScript, which Vite loads.
import { createServer } from "vite";

const vite = await createServer({
  configFile: false,
  appType: "custom",
  server: { middlewareMode: true, hmr: false, ws: false },
  logLevel: "error",
});
const { start } = await vite.ssrLoadModule("/dev/backend/server.ts");
const port = await start(Number(process.env.PORT ?? 8099));
console.log(`Scripted backend on http://localhost:${port}, key: dev-key`);
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
