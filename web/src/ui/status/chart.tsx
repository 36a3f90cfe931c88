import type { RefObject } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { visibleLine } from "../../text/visible.ts";

export interface Series {
  name: string;
  /** One value per column; the same length for all series. */
  values: number[];
  /** The same for the same thing in every chart: a class of `status.css`. */
  colour: string;
}

const HEIGHT = 200;
/** Until it is measured. */
const FIRST_WIDTH = 640;
const WIDEST_BAR = 40;
const LEFT = 44;
/** Half of the last day that is written below. */
const RIGHT = 16;
const BOTTOM = 22;
const TOP = 8;

/** Pixels between the days that are written below. */
const LABEL_PIXELS = 80;

interface Chart {
  title: string;
  /** Days, `2026-01-31`. */
  columns: string[];
  series: Series[];
  format: (value: number) => string;
}

/** Stacked columns over time. The table beside it says the same to those who cannot see it. */
export function StackedBars({ title, columns, series, format }: Chart) {
  const [place, width] = useWidth();
  const totals = columns.map((_, index) => series.reduce((sum, each) => sum + (each.values[index] ?? 0), 0));
  const top = niceTop(Math.max(...totals, 0));
  const step = (width - LEFT - RIGHT) / Math.max(1, columns.length);
  const every = Math.max(1, Math.ceil(LABEL_PIXELS / step));
  const y = (value: number) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / top;
  return (
    <figure class="chart" aria-label={title}>
      <figcaption>
        {title}
        <span class="legend">
          {series.map((each) => (
            <span key={each.name}>
              <i class={`swatch ${each.colour}`} />
              {visibleLine(each.name, 40)}
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={place}>
        <svg width={width} height={HEIGHT} aria-hidden="true">
          {[0, 0.5, 1].map((part) => (
            <g key={part}>
              <line class="grid" x1={LEFT} x2={width} y1={y(top * part)} y2={y(top * part)} />
              <text class="axis" x={LEFT - 8} y={y(top * part) + 4} text-anchor="end">
                {format(top * part)}
              </text>
            </g>
          ))}
          {columns.map((column, index) => (
            <g key={column}>
              <title>{`${column}: ${format(totals[index] ?? 0)}`}</title>
              <rect class="hit" x={LEFT + step * index} y={0} width={step} height={HEIGHT - BOTTOM} />
              <Bar series={series} column={index} x={LEFT + step * index} step={step} y={y} />
              {(columns.length - 1 - index) % every === 0 && (
                <text class="axis" x={LEFT + step * (index + 0.5)} y={HEIGHT - 6} text-anchor="middle">
                  {dayOf(column)}
                </text>
              )}
            </g>
          ))}
        </svg>
      </div>
      <Table title={title} columns={columns} series={series} format={format} />
    </figure>
  );
}

/** The parts of one column, on top of each other. */
function Bar(props: {
  series: Series[];
  column: number;
  x: number;
  step: number;
  y: (value: number) => number;
}) {
  const { series, column, x, step, y } = props;
  const values = series.map((each) => each.values[column] ?? 0);
  const width = Math.min(step * 0.64, WIDEST_BAR);
  return (
    <>
      {series.map((each, index) => {
        const value = values[index] ?? 0;
        const base = values.slice(0, index).reduce((sum, below) => sum + below, 0);
        const height = Math.max(1, y(base) - y(base + value));
        return (
          value > 0 && (
            <rect
              key={each.name}
              class={each.colour}
              x={x + (step - width) / 2}
              y={y(base) - height}
              width={width}
              height={height}
              rx={1.5}
            />
          )
        );
      })}
    </>
  );
}

function Table({ title, columns, series, format }: Chart) {
  return (
    <table class="visually-hidden" aria-label={title}>
      <thead>
        <tr>
          <th scope="col">Day</th>
          {series.map((each) => (
            <th key={each.name} scope="col">
              {visibleLine(each.name, 40)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {columns.map((column, index) => (
          <tr key={column}>
            <th scope="row">{column}</th>
            {series.map((each) => (
              <td key={each.name}>{format(each.values[index] ?? 0)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The width that there is, in pixels, as it changes: what is written in a drawing keeps its size then. */
function useWidth(): [RefObject<HTMLDivElement | null>, number] {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(FIRST_WIDTH);
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return;
    const observer = new ResizeObserver(
      ([entry]) => entry && setWidth(Math.max(160, entry.contentRect.width)),
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [place, width];
}

function dayOf(column: string): string {
  return new Date(`${column}T12:00:00`).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

/** The next 1, 2 or 5 times a power of ten. */
function niceTop(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}
