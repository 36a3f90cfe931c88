import type { SVGAttributes } from "preact";

/** Line icons on a 16-pixel grid, drawn in the colour of the text around them; decoration, so hidden from readers. */
const PATHS = {
  add: "M8 3v10M3 8h10",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  close: "M4 4l8 8M12 4l-8 8",
  send: "M8 13V3.5M4 7.5l4-4 4 4",
  stop: "M4.5 4.5h7v7h-7z",
  chevron: "M6 4l4 4-4 4",
  down: "M8 3v9.5M4 8.5l4 4 4-4",
  up: "M8 13V3.5M4 7.5l4-4 4 4",
  copy: "M5.5 5.5h7v7h-7zM3.5 10.5v-7h7",
  check: "M3.5 8.5l3 3 6-7",
  file: "M4 2.5h5l3 3v8H4zM9 2.5v3h3",
  folder: "M2.5 4.5h4l1.5 1.5h5.5v6.5h-11z",
  more: "M4 8h.01M8 8h.01M12 8h.01",
  edit: "M3 13l.7-3L10.500 3.200l2.300 2.300L6 12.300z",
  fork: "M5 3v10M5 9c0-3 6-2 6-6M3.500 3.500L5 2l1.500 1.500M9.500 4.500L11 3l1.500 1.500",
  trash: "M3.500 4.500h9M6.500 4.500v-2h3v2M4.500 4.500l.6 9h5.800l.6-9",
  status: "M2.500 13.500h11M4 11V8M8 11V3.500M12 11V6",
  light:
    "M8 5.200a2.800 2.800 0 100 5.600 2.800 2.800 0 000-5.600zM8 1.500v1.200M8 13.300v1.200M1.500 8h1.200M13.300 8h1.200M3.400 3.400l.9.9M11.700 11.700l.9.9M3.400 12.600l.9-.9M11.700 4.300l.9-.9",
  dark: "M13 9.500A5.500 5.500 0 116.500 3a4.500 4.500 0 006.500 6.500z",
  system: "M2.500 3.500h11v7.500h-11zM6 13.500h4",
  out: "M9.500 3.500h-6v9h6M7 8h6.500M11 5.500L13.500 8 11 10.500",
  warning: "M8 2.500l6 10.500H2zM8 6.500v3M8 11.500h.01",
  retry: "M12.500 8a4.500 4.500 0 11-1.400-3.200M12.500 2.500V5H10",
  download: "M8 2.500v8M4.500 7L8 10.500 11.500 7M3 13.500h10",
  upload: "M8 10.500v-8M4.500 6L8 2.500 11.500 6M3 13.500h10",
  terminal: "M3 4.500l3 3-3 3M8 11.500h5",
  search: "M7 3a4 4 0 100 8 4 4 0 000-8zM10 10l3.500 3.500",
  tool: "M10 2.500a3.500 3.500 0 00-3.300 4.600L2.500 11.300l2.200 2.200 4.200-4.200A3.500 3.500 0 0013.300 5L11 7.200 8.800 5 11 2.700",
  question: "M5.500 6a2.500 2.500 0 114 2c-1 .7-1.500 1-1.500 2M8 12.500h.01",
  agent: "M4 6.500h8v6H4zM8 6.500v-3M6.500 9.500h.01M9.500 9.500h.01",
  snapshot: "M2.500 5h3l1-1.500h3l1 1.500h3v8h-11zM8 7a2 2 0 100 4 2 2 0 000-4z",
  template: "M3 2.500h7v7H3zM6 12.500v1h7v-7h-1",
  details: "M8 7.500v4M8 4.500h.01M8 1.800a6.200 6.200 0 100 12.400A6.200 6.200 0 008 1.800z",
  changes: "M8 3v5M5.500 5.500h5M5.500 12h5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({
  name,
  size = 16,
  ...rest
}: { name: IconName; size?: number } & Omit<SVGAttributes<SVGSVGElement>, "name" | "size">) {
  return (
    <svg
      class="icon"
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width={name === "more" ? 2.4 : 1.5}
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      {...rest}
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The mark: a track and the one that leaves it. */
export function Mark({ size = 22 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect class="mark-ground" width="32" height="32" rx="7" />
      <g fill="none" class="mark-rails" stroke-width="2.6" stroke-linecap="round">
        <path d="M11 26V6" />
        <path d="M11 20c0-5 10-5 10-14" opacity="0.75" />
      </g>
    </svg>
  );
}
