/** A button that opens a menu. */

import * as machine from "@zag-js/menu";
import { normalizeProps, useMachine } from "@zag-js/preact";
import { createPortal } from "preact/compat";
import { useId } from "preact/hooks";
import { Icon, type IconName } from "./Icon";
import { pressedBy } from "./keys";

export interface Item {
  label: string;
  /** Beside the label: what is chosen now, or the key that does the same. */
  note?: string;
  danger?: boolean;
  run: () => void;
}

interface Props {
  label: string;
  icon: IconName;
  items: Item[];
  shortcut?: string;
}

export function Menu({ label, icon, items, shortcut }: Props) {
  const service = useMachine(machine.machine, {
    id: useId(),
    positioning: { placement: "bottom-end" },
    onSelect: ({ value }) => items[Number(value)]?.run(),
  });
  const api = machine.connect(service, normalizeProps);
  const keys = shortcut === undefined ? {} : pressedBy(shortcut);
  return (
    <>
      <button {...api.getTriggerProps()} {...keys} class="quiet square" aria-label={label} title={label}>
        <Icon name={icon} />
      </button>
      {api.open &&
        createPortal(
          <div {...api.getPositionerProps()} class="menu-place">
            <ul {...api.getContentProps()} class="menu" aria-label={label}>
              {items.map((item, index) => (
                <li
                  key={item.label}
                  {...api.getItemProps({ value: String(index) })}
                  class={item.danger ? "danger" : ""}
                >
                  {item.label}
                  {item.note !== undefined && <span class="note">{item.note}</span>}
                </li>
              ))}
            </ul>
          </div>,
          document.body,
        )}
    </>
  );
}
