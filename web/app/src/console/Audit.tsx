/** Who changed what and why, newest first, and whether the chain of entries is whole. */

import { useState } from "preact/hooks";
import type { AuditEntry, AuditTrail } from "../api/loop";
import { number, time, words } from "./format";
import { Shown } from "./Shown";
import { Table } from "./Table";
import { useWatch } from "./watch";

const PAGE = 50;

export function Audit() {
  const trail = useWatch<AuditTrail>("v1/audit", 30_000);
  const [shown, setShown] = useState(PAGE);
  return (
    <section class="panel" aria-label="Audit">
      <h2>Audit</h2>
      <Shown seen={trail}>
        {({ data, entries, head, fault }) => (
          <>
            {fault === "" ? (
              <p class="note">
                {number(entries)} entries, whole and in order. The newest has the hash <code class="hash">{head}</code>:
                note it elsewhere.
              </p>
            ) : (
              <p class="notice" role="alert">
                The audit trail was changed: {fault}
              </p>
            )}
            <Table
              label="Audit"
              head={["when", "what", "about", "who", "why"]}
              rows={data.slice(-shown).reverse().map(row)}
            />
            {data.length > shown && (
              <button type="button" class="quiet" onClick={() => setShown(shown + PAGE)}>
                Show more
              </button>
            )}
          </>
        )}
      </Shown>
    </section>
  );
}

function row({ at, action, version, subject, actor, reason }: AuditEntry) {
  const about = [version === null ? "" : `v${version}`, subject].filter((it) => it !== "").join(" ");
  return [time(at), words(action), about, actor, reason];
}
