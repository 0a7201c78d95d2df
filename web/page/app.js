/** The page: a conversation in memory, and the composer that adds turns to it. */

import { ApiError } from "./api.js";
import { failure, streamAnswer } from "./chat.js";
import { compare } from "./compare.js";
import { byId, clearAnnouncements, el } from "./dom.js";
import { watchLivePolicy } from "./live.js";

/**
 * One question and what became of it. Turns without an answer (failed, stopped at once) are not sent along later.
 * @typedef {{question: string, answer: string, undecided: boolean, element: HTMLElement, place: HTMLElement}} Turn
 * @typedef {(place: HTMLElement, messages: import("./api.js").Message[], signal: AbortSignal,
 *   decided: (answer: string) => void) => Promise<void>} Ask
 */

const thread = byId("thread");
const welcome = byId("welcome");
const composer = byId("composer");
const question = byId("question");

/** @type {Turn[]} */
let turns = [];
/** Of the request that is under way. @type {AbortController | null} */
let running = null;
/** Whether the end of the page stays in view while it grows: until the reader scrolls up. */
let following = true;
let scrolledTo = 0;

/** @type {Ask} */
async function single(place, messages, signal, decided) {
  decided(await streamAnswer(place, messages, signal));
}

/** @param {Ask} ask */
function submit(ask) {
  const text = question.value.trim();
  if (text !== "" && isFree()) {
    setQuestion("");
    run(addTurn(text), ask);
  }
  question.focus();
}

/** Whether a question may be asked: nothing is under way and no comparison waits for its vote. */
function isFree() {
  return running === null && !turns.some((turn) => turn.undecided);
}

/** @param {string} text @returns {Turn} */
function addTurn(text) {
  const place = el("div", { class: "place" });
  const element = el("section", { class: "turn" }, el("div", { class: "question" }, el("p", {}, text)), place);
  const turn = { question: text, answer: "", undecided: false, element, place };
  welcome.hidden = true;
  thread.append(element);
  turns.push(turn);
  following = true;
  return turn;
}

/** @param {Turn} turn @param {Ask} ask */
async function run(turn, ask) {
  const controller = new AbortController();
  running = controller;
  turn.undecided = true;
  clearAnnouncements();
  showState();
  try {
    await ask(turn.place, messagesOf(turn), controller.signal, (answer) => settle(turn, answer));
  } catch (error) {
    settle(turn, "");
    if (!(error instanceof ApiError) && !controller.signal.aborted) throw error;
    const why = error instanceof ApiError ? error.message : "Stopped.";
    turn.place.append(failure(why, () => isFree() && run(turn, ask), () => edit(turn)));
  } finally {
    if (running === controller) running = null;
    showState();
  }
}

/** @param {Turn} turn @param {string} answer */
function settle(turn, answer) {
  turn.answer = answer;
  turn.undecided = false;
  showState();
  if (turns.includes(turn) && document.activeElement === document.body) question.focus();
}

/** The conversation up to this turn's question. @param {Turn} turn @returns {import("./api.js").Message[]} */
function messagesOf(turn) {
  const before = turns.slice(0, turns.indexOf(turn)).filter(({ answer }) => answer !== "");
  const answered = before.flatMap((past) => [
    { role: /** @type {const} */ ("user"), content: past.question },
    { role: /** @type {const} */ ("assistant"), content: past.answer },
  ]);
  return [...answered, { role: "user", content: turn.question }];
}

/** Moves a failed question back into the composer, before anything typed since. @param {Turn} turn */
function edit(turn) {
  turns = turns.filter((other) => other !== turn);
  turn.element.remove();
  setQuestion([turn.question, question.value].filter((text) => text !== "").join("\n"));
  question.focus();
}

function restart() {
  running?.abort();
  for (const turn of turns) turn.element.remove();
  turns = [];
  welcome.hidden = false;
  clearAnnouncements();
  showState();
  question.focus();
}

/** @param {string} text */
function setQuestion(text) {
  question.value = text;
  fitQuestion();
}

function fitQuestion() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

/** Makes the buttons and the hint say what can be done now. */
function showState() {
  const busy = running !== null;
  const undecided = !busy && turns.some((turn) => turn.undecided);
  byId("stop").hidden = !busy;
  byId("send").hidden = busy;
  for (const id of ["send", "compare"]) byId(id).setAttribute("aria-disabled", String(busy || undecided));
  byId("hint").classList.toggle("urgent", undecided);
  byId("hint").textContent = undecided
    ? "Choose an answer above to go on."
    : "Enter sends, Ctrl+Enter compares.";
}

/** @param {KeyboardEvent} event */
function onQuestionKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit(event.ctrlKey || event.metaKey ? compare : single);
}

composer.addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  submit(single);
});
question.addEventListener("keydown", onQuestionKey);
question.addEventListener("input", fitQuestion);
byId("compare").addEventListener("click", () => submit(compare));
byId("stop").addEventListener("click", () => running?.abort());
byId("new-chat").addEventListener("click", restart);
welcome.querySelector(".starters").addEventListener("click", (/** @type {any} */ { target }) => {
  if (!(target instanceof HTMLButtonElement)) return;
  setQuestion(target.textContent ?? "");
  question.focus();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});
document.addEventListener("scroll", () => {
  // Only a way up ends it: this event may come after the page has grown once more below where it was scrolled to.
  const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
  following = atEnd || (following && scrollY >= scrolledTo);
  scrolledTo = scrollY;
});
new ResizeObserver(() => {
  if (following) scrollTo({ top: document.documentElement.scrollHeight });
}).observe(thread);

showState();
watchLivePolicy();
