/** Line icons on a 24 grid; stroke and fill come from the style sheet. They are decoration: names stand beside them. */

const PATHS = {
  up: "M7 10.5v10H3.5v-10zM7 10.5 11 3c1.7 0 2.7 1.3 2.3 3l-.8 3.5h6c1.4 0 2.3 1.2 2 2.5l-1.6 6.8c-.2 1-1.1 1.7-2.1 1.7H7",
  down: "M17 13.5v-10h3.5v10zM17 13.5 13 21c-1.7 0-2.7-1.3-2.3-3l.8-3.5h-6c-1.4 0-2.3-1.2-2-2.5l1.6-6.8c.2-1 1.1-1.7 2.1-1.7H17",
  compare: "M3.5 5h6.5v14H3.5zM14 5h6.5v14H14z",
  stop: "M6.5 6.5h11v11h-11z",
  send: "M12 20V5M5.5 11.5 12 5l6.5 6.5",
  copy: "M9 9h11v11H9zM5.5 15H4V4h11v1.5",
  again: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.4M20 4v5.4h-5.4",
  edit: "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19z",
  star: "m12 3.5 2.6 5.5 6 .8-4.4 4.2 1.1 6-5.3-2.9L6.7 20l1.1-6-4.4-4.2 6-.8z",
  menu: "M4 6.5h16M4 12h16M4 17.5h16",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  close: "M6 6l12 12M18 6 6 18",
  plus: "M12 5v14M5 12h14",
  left: "M14.5 5.5 8 12l6.5 6.5",
  right: "M9.5 5.5 16 12l-6.5 6.5",
  settings: "M4 7h10M18 7h2M4 17h2M10 17h10M14 4.5v5M6 14.5v5",
  drag: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  check: "m5 12.5 4.5 4.5L19 7",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg data-icon={name} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The bob of a plumb line: the product's mark. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M12 1v8" />
      <path d="M7.5 9h9v3.5L12 23l-4.5-10.5z" fill="currentColor" />
    </svg>
  );
}
