/** All keys of the page, and the switch that turns single letters off. */

import { Dialog } from "./Dialog";
import { setSingleKeys, singleKeys } from "./keys";

export interface KeyGroup {
  title: string;
  /** Each with the keys and what they do. */
  keys: [string[], string][];
}

interface Props {
  open: boolean;
  onClose: () => void;
  groups: KeyGroup[];
}

export function KeysDialog({ open, onClose, groups }: Props) {
  return (
    <Dialog open={open} onClose={onClose} title="Keyboard">
      <div class="key-groups">
        {groups.map((group) => (
          <section key={group.title}>
            <h3>{group.title}</h3>
            <dl>
              {group.keys.map(([keys, does]) => (
                <div key={does}>
                  <dt>
                    {keys.map((key) => (
                      <kbd key={key}>{key}</kbd>
                    ))}
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
      <label class="switch">
        <input
          type="checkbox"
          role="switch"
          checked={singleKeys.value}
          onChange={(event) => setSingleKeys(event.currentTarget.checked)}
        />
        Single letters and digits are keys (outside text fields)
      </label>
    </Dialog>
  );
}
