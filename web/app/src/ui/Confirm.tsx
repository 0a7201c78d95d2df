/** Asks before something is lost. */

import type { ComponentChildren } from "preact";
import { Dialog } from "./Dialog";

interface Props {
  open: boolean;
  onClose: () => void;
  onConfirm: () => void;
  title: string;
  action: string;
  children: ComponentChildren;
}

export function Confirm({ open, onClose, onConfirm, title, action, children }: Props) {
  const confirm = () => {
    onClose();
    onConfirm();
  };
  return (
    <Dialog open={open} onClose={onClose} title={title} as="alert">
      <p>{children}</p>
      <div class="row">
        <button type="button" onClick={onClose}>
          Cancel
        </button>
        <button type="button" class="danger" onClick={confirm}>
          {action}
        </button>
      </div>
    </Dialog>
  );
}
