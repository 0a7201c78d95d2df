/** Numbers and times as the console writes them. */

export function percent(share: number, digits = 1): string {
  return `${(100 * share).toFixed(digits)} %`;
}

/** Short, with three digits that matter: `0.0123`, `12.3`, `1,234`. */
export function number(value: number): string {
  if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}

/** An e-value by its logarithm: `0.031`, `16`, `2·10⁵`. */
export function eValue(log10: number): string {
  if (log10 < 4) return String(Number((10 ** log10).toPrecision(2)));
  const power = Math.floor(log10);
  const digits = [...String(power)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]).join("");
  return `${Math.round(10 ** (log10 - power))}·10${digits}`;
}

export function interval({ low, high }: { low: number; high: number }, write: (value: number) => string): string {
  return `${write(low)} to ${write(high)}`;
}

/** @param seconds Unix time */
export function time(seconds: number): string {
  return new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** How long: `12 s`, `3 min`, `5 h`, `2 days`. */
export function span(seconds: number): string {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** `assistant@v7` or 7 as `v7`. */
export function short(version: number | string): string {
  return typeof version === "number" ? `v${version}` : version.replace(/^.*@/, "");
}

/** A name as the API has it, in words: `rolled_back`, `pairs.judge`. */
export function words(name: string): string {
  return name.replaceAll("_", " ").replaceAll(".", ", ");
}
