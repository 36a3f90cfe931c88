import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Permission } from "../conversation/rows.ts";

/** Until when it waits: after that it is denied by itself. */
export function Expiry({ permission }: { permission: Permission }) {
  const { expireTime } = permission.request;
  if (!expireTime) return null;
  const at = new Date(timestampMs(expireTime));
  return (
    <span class="card-expiry" title="Then it is denied by itself">
      waits until {at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" })}
    </span>
  );
}
