import { effect, signal } from "@preact/signals";

export type Theme = "system" | "light" | "dark";

const KEY = "theme";

export const theme = signal<Theme>((localStorage.getItem(KEY) as Theme | null) ?? "system");

effect(() => {
  if (theme.value === "system") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem(KEY);
  } else {
    document.documentElement.dataset.theme = theme.value;
    localStorage.setItem(KEY, theme.value);
  }
});

export function nextTheme(): void {
  const order: Theme[] = ["system", "light", "dark"];
  theme.value = order[(order.indexOf(theme.value) + 1) % order.length] ?? "system";
}
