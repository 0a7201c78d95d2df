/** What can be done to a conversation. */

import { expect, test } from "vitest";
import {
  answered,
  answerOf,
  asked,
  BROKEN,
  changed,
  changedWhere,
  drafts,
  fresh,
  isUndecided,
  messagesOf,
  reasked,
  titleOf,
  voted,
  withAnswer,
  withoutLast,
} from "../src/model/conversation";

const once = changed(asked(fresh(), "One?"), 0, (turn) => answered(turn, { text: "1", completion: "chatcmpl-1" }));
const compared = changed(asked(once, "Two?"), 1, (turn) =>
  answered(turn, { text: "left", comparison: "cmp_1" }, { text: "right", comparison: "cmp_1" }),
);

test("a conversation is named by its first question, cut at sixty characters", () => {
  expect(asked(once, "Two?").title).toBe("One?");
  expect(titleOf(`  a\n b ${"x".repeat(99)}`)).toHaveLength(60);
  expect(fresh().id).toMatch(/^conv_[0-9a-f]{32}$/);
});

test("what is asked goes on from the shown answers, as they were corrected", () => {
  const corrected = changed(once, 0, (turn) => withAnswer(turn, 0, { correction: "one" }));
  expect(messagesOf(asked(corrected, "Two?"), 1)).toEqual([
    { role: "user", content: "One?" },
    { role: "assistant", content: "one" },
    { role: "user", content: "Two?" },
  ]);
});

test("a question without an answer, or with half of one, is not sent along", () => {
  const failed = changed(asked(fresh(), "One?"), 0, (turn) => answered(turn, { text: "ha", finish_reason: BROKEN }));
  expect(messagesOf(asked(failed, "Two?"), 1)).toEqual([{ role: "user", content: "Two?" }]);
  expect(messagesOf(asked(asked(fresh(), "One?"), "Two?"), 1)).toEqual([{ role: "user", content: "Two?" }]);
});

test("another question in the place of an old one takes what followed away", () => {
  const again = reasked(compared, 0, "Three?");
  expect(again.turns).toEqual([{ question: "Three?", answers: [], shown: 0 }]);
  expect(again.id).toBe(compared.id);
});

test("a comparison is undecided until its vote, and goes on from the better side, else from the first", () => {
  const turn = compared.turns[1];
  if (turn === undefined) throw new Error("two turns");
  expect(isUndecided(turn)).toBe(true);
  for (const [vote, goesOn] of [
    ["a", "left"],
    ["b", "right"],
    ["tie", "left"],
    ["both_bad", "left"],
    ["skipped", "left"],
  ] as const) {
    const decided = voted(turn, 0, vote);
    expect(isUndecided(decided)).toBe(false);
    expect(answerOf(decided)).toBe(goesOn);
  }
  const { answers } = voted(turn, 0, "b", { a: "assistant@v2", b: "assistant@v3" });
  expect(answers.map(({ model }) => model)).toEqual(["assistant@v2", "assistant@v3"]);
});

test("drafts are single answers and pairs; the last ones can be taken away again", () => {
  const turn = compared.turns[1];
  if (turn === undefined) throw new Error("two turns");
  const three = answered(voted(turn, 0, "b"), { text: "third" });
  expect(drafts(three)).toEqual([
    { index: 0, pair: true },
    { index: 2, pair: false },
  ]);
  expect([three.shown, withoutLast(three, 1).shown]).toEqual([2, 1]);
  expect(withoutLast(turn, 2)).toEqual({ question: "Two?", answers: [], shown: 0 });
});

test("an answer is found wherever it stands, and nothing changes where it is gone", () => {
  const again = changed(once, 0, (turn) => answered(turn, { text: "one", completion: "chatcmpl-2" }));
  const mark = (completion: string) =>
    changedWhere(
      again,
      (answer) => answer.completion === completion,
      (turn, index) => withAnswer(turn, index, { thumb: 1 }),
    );
  expect(mark("chatcmpl-2").turns[0]?.answers.map((answer) => answer.thumb)).toEqual([null, 1]);
  expect(mark("chatcmpl-3")).toEqual(again);
});
