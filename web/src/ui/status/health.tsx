import type { system } from "../../api/clients.ts";
import type { Diagnostics } from "../../gen/pointsman/system/v1/system_service_pb.ts";
import { bytes, seconds, span } from "../../text/format.ts";
import { visibleLine } from "../../text/visible.ts";
import { Broken, Spinner } from "../controls.tsx";
import type { Reading } from "../reading.ts";

type HealthAnswer = Awaited<ReturnType<typeof system.getHealth>>;

/** The services, and whether each answers. */
export function Health({ health, insides }: { health: Reading<HealthAnswer>; insides: Diagnostics[] }) {
  if (health.failure)
    return (
      <section>
        <h2>Services</h2>
        <Broken
          title="Pointsman does not say how it is"
          text={`${health.failure.message} ${health.failure.advice}`}
          onRetry={health.again}
        />
      </section>
    );
  const services = health.value?.services ?? [];
  return (
    <section aria-labelledby="services-title">
      <div class="section-head">
        <h2 id="services-title">Services</h2>
        {health.value && (
          <span class={`state ${health.value.status}`}>
            {health.value.status === "healthy" ? "All healthy" : "Something is down"}
          </span>
        )}
      </div>
      {!health.value && <Spinner label="Asking the services" />}
      <ul class="service-cards">
        {services.map((each) => {
          const inside = insides.find((other) => other.service === each.service);
          return (
            <li key={each.service} class={each.status}>
              <span class="service-name">
                <i class={`dot ${each.status}`} />
                {each.service}
              </span>
              <span class="service-facts">
                {each.status === "healthy" ? upFor(inside) : "does not answer"}
              </span>
              {inside && (
                <span class="service-facts">
                  {[bytes(inside.memoryBytes), visibleLine(inside.version, 40)].filter(Boolean).join(" · ")}
                </span>
              )}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function upFor(inside: Diagnostics | undefined): string {
  return inside ? `up ${span(seconds(inside.uptime))}` : "healthy";
}
