/** A table that scrolls by itself where it is too wide, also by keyboard. */

import type { ComponentChildren } from "preact";

interface Props {
  /** What the table is about, for who does not see where it stands. */
  label: string;
  head: string[];
  /** Of cells; the first of each names its row. */
  rows: ComponentChildren[][];
  /** In place of a table without rows. */
  empty?: string;
}

export function Table({ label, head, rows, empty = "Nothing yet." }: Props) {
  if (rows.length === 0) return <p class="note">{empty}</p>;
  return (
    <div class="table" role="group" aria-label={label} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {head.map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([first, ...rest], at) => (
            <tr key={at}>
              <th scope="row">{first}</th>
              {rest.map((cell, column) => (
                <td key={column}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
