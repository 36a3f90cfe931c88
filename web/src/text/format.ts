import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";

/** How long ago, in as few characters as a list has room for: `now`, `5m`, `3h`, `2d`, then the date. */
export function ago(time: Timestamp | undefined, now = Date.now()): string {
  if (!time) return "";
  const seconds = Math.max(0, (now - timestampMs(time)) / 1000);
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h`;
  if (seconds < 7 * 86400) return `${Math.floor(seconds / 86400)}d`;
  return new Date(timestampMs(time)).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

export function exactTime(time: Timestamp | undefined): string {
  return time ? new Date(timestampMs(time)).toLocaleString() : "";
}

export function seconds(duration: Duration | undefined): number {
  return duration ? Number(duration.seconds) + duration.nanos / 1e9 : 0;
}

/** `0.24 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function span(total: number): string {
  if (total < 10) return `${total < 1 ? total.toFixed(2) : total.toFixed(1)} s`;
  const seconds = Math.round(total);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(total / 60);
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(total / 3600);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** US dollars with as many digits as mean something. Empty for nothing: models without a price cost nothing. */
export function dollars(value: number): string {
  if (!value) return "";
  if (value < 0.01) return `$${value.toPrecision(2)}`;
  return `$${value.toFixed(2)}`;
}

/** `950`, `12.3k`, `4.5M`. */
export function count(value: number | bigint): string {
  const number = Number(value);
  if (number < 1000) return String(number);
  if (number < 1_000_000) return `${trim(number / 1000)}k`;
  return `${trim(number / 1_000_000)}M`;
}

export function bytes(value: number | bigint): string {
  const number = Number(value);
  if (number < 1024) return `${number} B`;
  if (number < 1024 ** 2) return `${trim(number / 1024)} KB`;
  return `${trim(number / 1024 ** 2)} MB`;
}

function trim(value: number): string {
  return value < 10 ? value.toFixed(1).replace(/\.0$/, "") : String(Math.round(value));
}
