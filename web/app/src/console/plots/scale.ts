/** From numbers to places in a picture. Pure. */

export type Span = readonly [low: number, high: number];
export type Place = readonly [x: number, y: number];

/** Maps `domain` to `range` along a line; what lies outside goes to the nearer end. */
export function linear(domain: Span, range: Span): (value: number) => number {
  const [low, high] = domain;
  const [from, to] = range;
  return (value) => {
    const share = high === low ? 0.5 : (value - low) / (high - low);
    return from + Math.min(1, Math.max(0, share)) * (to - from);
  };
}

/** The smallest span that holds all values; of none, the one that is given. */
export function span(values: readonly number[], otherwise: Span = [0, 1]): Span {
  return values.length === 0 ? otherwise : [Math.min(...values), Math.max(...values)];
}

/** Round numbers inside of `[low, high]`, about `count` of them: 1, 2 or 5 times a power of ten apart. */
export function ticks([low, high]: Span, count = 5): number[] {
  if (high <= low) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5].find((it) => it * power >= rough * 0.999) ?? 10) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

/** The `d` of a line through the places. */
export function line(places: readonly Place[]): string {
  return places.map(([x, y], at) => `${at === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** The `d` of what lies between two lines, each from left to right. */
export function between(upper: readonly Place[], lower: readonly Place[]): string {
  return upper.length === 0 ? "" : `${line([...upper, ...lower.toReversed()])}Z`;
}
