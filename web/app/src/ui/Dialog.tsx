/** A modal dialog: focus stays inside, Escape closes it, and the focus returns to where it was. */

import * as machine from "@zag-js/dialog";
import { normalizeProps, useMachine } from "@zag-js/preact";
import type { ComponentChildren } from "preact";
import { createPortal } from "preact/compat";
import { useId } from "preact/hooks";
import { Icon } from "./Icon";

interface Props {
  open: boolean;
  onClose: () => void;
  title: string;
  children: ComponentChildren;
  /** A drawer comes from the side; an alert asks before something is lost. */
  as?: "window" | "drawer" | "alert";
}

export function Dialog({ open, onClose, title, children, as = "window" }: Props) {
  const service = useMachine(machine.machine, {
    id: useId(),
    open,
    role: as === "alert" ? "alertdialog" : "dialog",
    onOpenChange: (change) => {
      if (!change.open) onClose();
    },
  });
  const api = machine.connect(service, normalizeProps);
  if (!api.open) return null;
  return createPortal(
    <>
      <div {...api.getBackdropProps()} class="backdrop" />
      <div {...api.getPositionerProps()} class={`positioner ${as}`}>
        <div {...api.getContentProps()} class="dialog">
          <header>
            <h2 {...api.getTitleProps()}>{title}</h2>
            <button {...api.getCloseTriggerProps()} class="quiet square" aria-label="Close">
              <Icon name="close" />
            </button>
          </header>
          {children}
        </div>
      </div>
    </>,
    document.body,
  );
}
