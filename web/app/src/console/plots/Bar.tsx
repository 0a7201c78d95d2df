/** Small marks for a cell of a table, whose numbers stand beside them. */

import { linear, type Span } from "./scale";

const WIDTH = 160;
const HEIGHT = 14;

/** A number as a length. */
export function Bar({ value, most }: { value: number; most: number }) {
  const long = linear([0, most], [0, WIDTH])(value);
  return (
    <svg class="cell-mark" aria-hidden="true" viewBox={`0 0 ${WIDTH} ${HEIGHT}`}>
      <rect width={Math.max(value > 0 ? 2 : 0, long)} height={HEIGHT} rx="2" />
    </svg>
  );
}

interface WhiskerProps {
  value: number;
  low: number;
  high: number;
  domain: Span;
  /** A value to compare with: a fine line across. */
  against?: number | undefined;
}

/** An estimate with its interval. */
export function Whisker({ value, low, high, domain, against }: WhiskerProps) {
  const at = linear(domain, [4, WIDTH - 4]);
  return (
    <svg class="cell-mark" aria-hidden="true" viewBox={`0 0 ${WIDTH} ${HEIGHT}`}>
      {against !== undefined && <path class="against" d={`M${at(against)} 0V${HEIGHT}`} />}
      <path d={`M${at(low)} ${HEIGHT / 2}H${at(high)}`} />
      <circle cx={at(value)} cy={HEIGHT / 2} r="4" />
    </svg>
  );
}
