import { render } from "preact";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/conversation.css";
import "./styles/panel.css";
import "./styles/status.css";
import "./state/theme.ts";
import { App } from "./ui/app.tsx";

const root = document.getElementById("app");
if (root) render(<App />, root);
