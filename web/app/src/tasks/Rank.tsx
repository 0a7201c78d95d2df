/**
 * Ranking by drag or keys. Dragging a card by its handle (or moving it by the arrow keys while the handle has the focus)
 * gives every answer the place where it stands; a number key or a menu gives one answer its place, and may share one.
 */

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { groups, moved, ordered, type Places, placed } from "../model/ranking";
import { announce, toast } from "../ui/announce";
import { Icon } from "../ui/Icon";
import { Card, Controls, type Judging, useSettling } from "./Task";

export function Rank(judging: Judging) {
  const { task } = judging;
  const { busy, answer, skip } = useSettling(judging);
  const sides = task.answers.map((it) => it.side ?? "");
  const [order, setOrder] = useState<readonly number[]>(sides.map((_, index) => index));
  const [places, setPlaces] = useState<Places>(sides.map(() => null));
  const root = useRef<HTMLDivElement>(null);
  const give = (index: number, place: number | null) => setPlaces((before) => placed(before, index, place));
  useNumberKeys(root, sides.length, order, places, give);

  const move = (from: number, to: number) => {
    const next = moved(order, from, to);
    if (next === order) return;
    setOrder(next);
    setPlaces(ordered(next));
    announce(`Answer ${sides[order[from] as number]?.toUpperCase()} is now ${to + 1} of ${sides.length}.`);
  };
  const send = () => {
    const ranking = groups(places, sides);
    if (ranking === null) toast("Give every answer a place; equal answers may share one.");
    else answer(ranking);
  };
  return (
    <div ref={root}>
      <p class="note ranking-hint">
        Drag them into order, or press 1 to {sides.length} for one answer after the other.
      </p>
      <ol class="cards many ranking">
        {order.map((index, at) => {
          const each = task.answers[index];
          const name = sides[index]?.toUpperCase();
          return (
            each && (
              <li key={index}>
                <Card
                  answer={each}
                  control={
                    <>
                      <label class="place-of">
                        Place
                        <Select
                          count={sides.length}
                          value={places[index] ?? null}
                          onValue={(place) => give(index, place)}
                        />
                      </label>
                      <Handle name={`Move answer ${name}`} at={at} onMove={move} />
                    </>
                  }
                />
              </li>
            )
          );
        })}
      </ol>
      <Controls task={task} busy={busy} skip={skip}>
        <button type="button" class="primary" onClick={send}>
          Send the ranking
        </button>
      </Controls>
    </div>
  );
}

interface SelectProps {
  count: number;
  value: number | null;
  onValue: (place: number | null) => void;
}

function Select({ count, value, onValue }: SelectProps) {
  return (
    <select
      class="place"
      value={value ?? ""}
      onChange={(event) => onValue(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))}
    >
      <option value="">–</option>
      {Array.from({ length: count }, (_, at) => (
        <option key={at} value={at + 1}>
          {at + 1}
        </option>
      ))}
    </select>
  );
}

interface HandleProps {
  name: string;
  at: number;
  onMove: (from: number, to: number) => void;
}

/** Follows the pointer, mouse or finger, past the middles of the other cards; or the arrow keys. */
function Handle({ name, at, onMove }: HandleProps) {
  const onPointerMove = (event: PointerEvent) => {
    const handle = event.currentTarget as HTMLElement;
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const cards = [...(handle.closest("ol")?.children ?? [])].map((card) => card.getBoundingClientRect());
    const above = cards.filter((box, index) => index !== at && box.top + box.height / 2 < event.clientY).length;
    onMove(at, above);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const handle = event.currentTarget as HTMLElement;
    onMove(at, at + step);
    requestAnimationFrame(() => handle.focus()); // moving its card takes the focus away
  };
  return (
    <button
      type="button"
      class="quiet square handle"
      aria-label={name}
      title={`${name}: drag, or press ↑ ↓`}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={onPointerMove}
      onKeyDown={onKeyDown}
    >
      <Icon name="drag" />
    </button>
  );
}

/** A number key gives its place to the answer in focus, else to the first without one, and goes on to the next. */
function useNumberKeys(
  root: { current: HTMLElement | null },
  count: number,
  order: readonly number[],
  places: Places,
  give: (index: number, place: number) => void,
): void {
  // Before the next key, not after the next frame: whoever types fast must not be heard with what was true before.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || event.defaultPrevented) return;
      if (document.querySelector('[role="dialog"]') !== null) return;
      const selects = [...(root.current?.querySelectorAll<HTMLSelectElement>("select.place") ?? [])];
      const focused = selects.indexOf(event.target as HTMLSelectElement);
      const at = focused >= 0 ? focused : order.findIndex((index) => places[index] === null);
      const place = Number(event.key);
      if (at < 0 || !/^[1-9]$/.test(event.key) || place > count) return;
      event.preventDefault();
      give(order[at] as number, place);
      const rest = order.findIndex((index, other) => other !== at && places[index] === null);
      (rest < 0 ? root.current?.querySelector<HTMLElement>(".judge .primary") : selects[rest])?.focus();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  });
}
