/** Lines over two axes, with the same numbers as a table for who cannot see them. */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Table } from "../Table";
import { between, line, linear, type Place, type Span } from "./scale";

export interface Axis {
  label: string;
  domain: Span;
  ticks: number[];
  write: (value: number) => string;
}

export interface Series {
  name: string;
  colour: "accent" | "brass" | "bad" | "good";
  points: readonly Place[];
}

interface Props {
  title: string;
  /** What the picture shows, in a sentence. */
  says: string;
  x: Axis;
  y: Axis;
  series: Series[];
  /** Lines across at values of y that mean something. */
  rules?: { at: number; says: string }[];
  /** What lies between a lower and an upper line. */
  band?: { name: string; lower: readonly Place[]; upper: readonly Place[] };
  dots?: boolean;
  height?: number;
}

const MARGIN = { top: 8, right: 12, bottom: 38, left: 52 };

export function LinePlot({ title, says, x, y, series, rules = [], band, dots = false, height = 190 }: Props) {
  const [frame, width] = useWidth();
  const across = linear(x.domain, [MARGIN.left, Math.max(MARGIN.left + 1, width - MARGIN.right)]);
  const up = linear(y.domain, [height - MARGIN.bottom, MARGIN.top]);
  const placed = (points: readonly Place[]) => points.map(([a, b]): Place => [across(a), up(b)]);
  return (
    <figure class="plot">
      <figcaption>
        <h3>{title}</h3>
        <p class="legend">
          {series.map(({ name, colour }) => (
            <span key={name} data-colour={colour}>
              {name}
            </span>
          ))}
          {band && <span data-colour="band">{band.name}</span>}
        </p>
      </figcaption>
      <div ref={frame}>
        <svg role="img" aria-label={`${title}. ${says}`} style={{ height: `${height}px` }}>
          {y.ticks.map((tick) => (
            <g key={tick} class="tick">
              <path d={`M${MARGIN.left} ${up(tick)}H${width - MARGIN.right}`} />
              <text x={MARGIN.left - 8} y={up(tick)} dy="0.32em" text-anchor="end">
                {y.write(tick)}
              </text>
            </g>
          ))}
          {x.ticks.map((tick) => (
            <text key={tick} x={across(tick)} y={height - MARGIN.bottom + 16} text-anchor="middle">
              {x.write(tick)}
            </text>
          ))}
          <text x={(MARGIN.left + width - MARGIN.right) / 2} y={height - 4} text-anchor="middle">
            {x.label}
          </text>
          {band && <path class="band" d={between(placed(band.upper), placed(band.lower))} />}
          {rules.map(({ at, says: named }) => (
            <g key={named} class="rule">
              <path d={`M${MARGIN.left} ${up(at)}H${width - MARGIN.right}`} />
              <text x={width - MARGIN.right} y={up(at) + 13} text-anchor="end">
                {named}
              </text>
            </g>
          ))}
          {series.map(({ name, colour, points }) => (
            <g key={name} class="series" data-colour={colour}>
              <path d={line(placed(points))} />
              {placed(dots ? points : points.slice(-1)).map(([left, top], at) => (
                <circle key={at} cx={left} cy={top} r="3.5" />
              ))}
            </g>
          ))}
        </svg>
      </div>
      <Numbers title={title} x={x} y={y} columns={band ? [...series, ...ends(band)] : series} />
    </figure>
  );
}

interface Column {
  name: string;
  points: readonly Place[];
}

function ends({ lower, upper }: NonNullable<Props["band"]>): Column[] {
  return [
    { name: "from", points: lower },
    { name: "to", points: upper },
  ];
}

function Numbers({ title, x, y, columns }: Pick<Props, "title" | "x" | "y"> & { columns: readonly Column[] }) {
  const found = columns.map(({ points }) => new Map(points));
  const rows = [...new Set(found.flatMap((column) => [...column.keys()]))].sort((one, other) => one - other);
  return (
    <details>
      <summary>As a table</summary>
      <Table
        label={title}
        head={[x.label, ...columns.map(({ name }) => name)]}
        rows={rows.map((at) => [x.write(at), ...found.map((column) => written(column.get(at), y))])}
      />
    </details>
  );
}

function written(value: number | undefined, axis: Axis): string {
  return value === undefined ? "" : axis.write(value);
}

/** How wide the element is, so that what is drawn in it is not scaled, and its letters stay as large as others. */
function useWidth() {
  const place = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(320);
  useLayoutEffect(() => {
    if (place.current === null) return;
    const watching = new ResizeObserver(([entry]) => entry && setWidth(Math.floor(entry.contentRect.width)));
    watching.observe(place.current);
    return () => watching.disconnect();
  }, []);
  return [place, width] as const;
}
