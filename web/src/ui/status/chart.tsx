import { visibleLine } from "../../text/visible.ts";

export interface Series {
  name: string;
  /** One value per column; the same length for all series. */
  values: number[];
}

const WIDTH = 640;
const HEIGHT = 180;
const LEFT = 44;
const BOTTOM = 22;
const TOP = 8;
/** Series that get a colour of their own; the rest are added up as “others”. */
const COLOURS = 5;

/** Stacked columns over time. The table below it says the same to those who cannot see it. */
export function StackedBars({
  title,
  columns,
  series,
  format,
}: {
  title: string;
  columns: string[];
  series: Series[];
  format: (value: number) => string;
}) {
  const shown = limit(series);
  const totals = columns.map((_, index) => shown.reduce((sum, each) => sum + (each.values[index] ?? 0), 0));
  const top = niceTop(Math.max(...totals, 0));
  const step = (WIDTH - LEFT) / Math.max(1, columns.length);
  const scale = (value: number) => ((HEIGHT - BOTTOM - TOP) * value) / top;
  const every = Math.ceil(columns.length / 7);
  return (
    <figure class="chart">
      <figcaption>
        {title}
        <span class="legend">
          {shown.map((each, index) => (
            <span key={each.name}>
              <i class={`swatch c${index}`} />
              {visibleLine(each.name, 40)}
            </span>
          ))}
        </span>
      </figcaption>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`${title}: ${columns[0]} to ${columns.at(-1)}, at most ${format(Math.max(...totals, 0))} a day`}
      >
        {[0, 0.5, 1].map((part) => (
          <g key={part}>
            <line
              class="grid"
              x1={LEFT}
              x2={WIDTH}
              y1={HEIGHT - BOTTOM - scale(top * part)}
              y2={HEIGHT - BOTTOM - scale(top * part)}
            />
            <text class="axis" x={LEFT - 8} y={HEIGHT - BOTTOM - scale(top * part) + 4} text-anchor="end">
              {format(top * part)}
            </text>
          </g>
        ))}
        {columns.map((column, index) => {
          let base = 0;
          return (
            <g key={column}>
              <title>{`${column}: ${format(totals[index] ?? 0)}`}</title>
              <rect class="hit" x={LEFT + step * index} y={0} width={step} height={HEIGHT - BOTTOM} />
              {shown.map((each, colour) => {
                const value = each.values[index] ?? 0;
                const y = HEIGHT - BOTTOM - scale(base + value);
                base += value;
                return (
                  value > 0 && (
                    <rect
                      key={each.name}
                      class={`bar c${colour}`}
                      x={LEFT + step * index + step * 0.18}
                      y={y}
                      width={step * 0.64}
                      height={Math.max(1, scale(value))}
                      rx={1.5}
                    />
                  )
                );
              })}
              {index % every === 0 && (
                <text class="axis" x={LEFT + step * (index + 0.5)} y={HEIGHT - 6} text-anchor="middle">
                  {column.slice(5)}
                </text>
              )}
            </g>
          );
        })}
      </svg>
    </figure>
  );
}

function limit(series: Series[]): Series[] {
  const sum = (each: Series) => each.values.reduce((total, value) => total + value, 0);
  const sorted = [...series].sort((a, b) => sum(b) - sum(a));
  if (sorted.length <= COLOURS) return sorted;
  const rest = sorted.slice(COLOURS - 1);
  const others = {
    name: `${rest.length} others`,
    values: (rest[0]?.values ?? []).map((_, index) =>
      rest.reduce((total, each) => total + (each.values[index] ?? 0), 0),
    ),
  };
  return [...sorted.slice(0, COLOURS - 1), others];
}

/** The next 1, 2 or 5 times a power of ten. */
function niceTop(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}
