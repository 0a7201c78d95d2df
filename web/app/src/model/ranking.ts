/** A ranking in the making: who has which place, and how it is said to the server. Pure functions. */

/** The place of each answer, 1 the best, by its index; null: none yet. Equal ones share a place. */
export type Places = readonly (number | null)[];

/** Gives `place` to the answer at `index`. */
export function placed(places: Places, index: number, place: number | null): Places {
  return places.map((it, at) => (at === index ? place : it));
}

/** Places 1 to n in the order of `order`, indices of answers, best first. */
export function ordered(order: readonly number[]): Places {
  return order.map((_, index) => order.indexOf(index) + 1);
}

/** Moves the entry at `from` to `to`; out of range it changes nothing. */
export function moved(order: readonly number[], from: number, to: number): readonly number[] {
  if (to < 0 || to >= order.length || from === to) return order;
  const rest = order.filter((_, at) => at !== from);
  return [...rest.slice(0, to), order[from] as number, ...rest.slice(to)];
}

/** Groups of sides, best first: `[["b"], ["a", "c"]]`; null while an answer has no place. */
export function groups(places: Places, sides: readonly string[]): string[][] | null {
  if (places.includes(null)) return null;
  const used = [...new Set(places as number[])].sort((one, other) => one - other);
  return used.map((place) => sides.filter((_, index) => places[index] === place));
}
