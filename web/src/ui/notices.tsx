import { dismiss, notices } from "../state/notices.ts";
import { IconButton } from "./controls.tsx";
import { Icon } from "./icons.tsx";

export function Notices() {
  return (
    <div class="notices" aria-live="polite">
      {notices.value.map((notice) => (
        <div
          key={notice.id}
          class={`notice ${notice.kind}`}
          role={notice.kind === "error" ? "alert" : "status"}
        >
          <Icon name={notice.kind === "error" ? "warning" : "check"} />
          <p>
            {notice.text} {notice.advice && <span class="notice-advice">{notice.advice}</span>}
          </p>
          <IconButton icon="close" label="Dismiss" onClick={() => dismiss(notice.id)} />
        </div>
      ))}
    </div>
  );
}
