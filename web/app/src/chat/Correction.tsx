/** The answer in a text field, where it stands: what its reader makes of it goes on in its place. */

import { completion, vote } from "../api/feedback";
import type { Answer } from "../model/conversation";
import { useDraft } from "../model/draft";
import { submitting } from "../ui/form";
import { TextBox } from "../ui/TextBox";
import { mark } from "./asking";
import { conversation } from "./keeping";
import { Notice, useSending } from "./voting";

interface Props {
  answer: Answer;
  onDone: () => void;
}

export function Correction({ answer, onDone }: Props) {
  const id = answer.completion ?? "";
  const begin = answer.correction ?? answer.text;
  const [text, setText] = useDraft(`correction.${id}`, begin);
  const { sending, notice, send } = useSending();
  const submit = async () => {
    const value = text.trim();
    if (sending || value === "" || value === begin.trim()) return;
    const home = conversation.value.id;
    if (!(await send(async () => void (await vote(completion(id), { kind: "correction", value }))))) return;
    setText(begin); // it is no draft any more
    mark(home, id, { correction: value });
    onDone();
  };
  return (
    <form class="correction" onSubmit={submitting(submit)}>
      <TextBox
        label="The answer as it should be"
        value={text}
        onValue={setText}
        onSubmit={() => void submit()}
        onCancel={onDone}
      />
      <div class="row">
        <Notice text={notice} />
        <button type="button" class="quiet" onClick={onDone}>
          Cancel
        </button>
        <button
          type="submit"
          class="primary"
          aria-disabled={sending || text.trim() === "" || text.trim() === begin.trim()}
        >
          Send the correction
        </button>
      </div>
    </form>
  );
}
