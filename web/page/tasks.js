/**
 * The page of rater tasks: one at a time, by mouse, touch or keyboard. Nothing here knows of policies or gold.
 */

import { byId, el, toast } from "./dom.js";
import { renderMarkdown } from "./markdown.js";

/**
 * @typedef {{side: string | null, content: string}} Answer
 * @typedef {{id: string, kind: "compare" | "rank" | "rate" | "correct", instructions: string,
 *   messages: {role: string, content: string}[], answers: Answer[]}} Task
 * @typedef {{label: string, key: string, value: unknown}} Choice
 */

const KEPT = "plumbline.task-rater";
const COMPARE = [
  { label: "A is better", key: "1", value: "a" },
  { label: "Tie", key: "2", value: "tie" },
  { label: "B is better", key: "3", value: "b" },
  { label: "Both are bad", key: "4", value: "both_bad" },
];
const RATE = ["Bad", "Poor", "Fair", "Good", "Excellent"].map((label, index) => {
  return { label, key: String(index + 1), value: index + 1 };
});

const QUESTIONS = {
  compare: "Which answer is better?",
  rank: "Rank the answers. 1 is the best; equal ones may share a place.",
  rate: "How good is the answer?",
  correct: "Edit the answer until it is right.",
};

let rater = "";

// --- the server --------------------------------------------------------------------------------------------------

/**
 * @param {string} path relative to the page
 * @param {object} [body] sent by POST
 * @returns {Promise<any>} null for 204
 */
async function call(path, body) {
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, body === undefined ? {} : post).catch(() => null);
  if (response === null) throw new Error("The server cannot be reached. Check the connection, then try again.");
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  throw Object.assign(new Error(answer?.error?.message ?? `The server answered with status ${response.status}.`), {
    over: ["task_closed", "lease_expired", "task_skipped", "task_answered"].includes(answer?.error?.code),
  });
}

async function next() {
  const query = `?rater=${encodeURIComponent(rater)}`;
  try {
    const task = await call(`v1/tasks/next${query}`);
    const progress = await call(`v1/tasks/progress${query}`);
    byId("progress").textContent = `${progress.done} done, ${progress.left + (task === null ? 0 : 1)} to do`;
    show(task === null ? [el("p", {}, "Nothing is left for you. Thank you."), again()] : draw(task));
  } catch (error) {
    show([el("p", { class: "notice", role: "alert" }, String(/** @type {Error} */ (error).message)), again()]);
  }
}

function again() {
  return el("button", { type: "button", onclick: next }, "Look again");
}

/** @param {Node[]} nodes */
function show(nodes) {
  byId("task").replaceChildren(...nodes);
  byId("toast").replaceChildren(); // it spoke of what was here before
  byId("task").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

/**
 * Sends an answer or a skip, then goes on; what could not be saved stays on the page.
 * @param {Task} task @param {string} action @param {object} body @param {HTMLElement} bar
 */
async function send(task, action, body, bar) {
  if (bar.getAttribute("aria-busy") === "true") return;
  bar.setAttribute("aria-busy", "true");
  try {
    await call(`v1/tasks/${task.id}/${action}`, { rater: { id: rater }, ...body });
    await next();
  } catch (error) {
    const { message, over } = /** @type {Error & {over?: boolean}} */ (error);
    if (over) await next();
    toast(message);
  } finally {
    bar.removeAttribute("aria-busy");
  }
}

// --- one task ----------------------------------------------------------------------------------------------------

/** @param {Task} task @returns {HTMLElement[]} */
function draw(task) {
  const bar = el("div", { class: "judge", role: "group", "aria-label": QUESTIONS[task.kind] });
  /** @param {unknown} value */
  const answer = (value) => send(task, "answer", { value }, bar);
  const kinds = { compare: chosen(COMPARE), rate: chosen(RATE), rank: ranked, correct: corrected };
  const { body, controls } = kinds[task.kind](task, answer);
  const skip = el("button", { type: "button", class: "quiet", onclick: () => send(task, "skip", {}, bar) }, "Skip");
  bar.append(...controls, skip);
  const parts = [prompt(task), el("h2", { class: "asked" }, QUESTIONS[task.kind]), ...body, bar];
  if (task.instructions !== "") parts.unshift(prose("instructions prose", task.instructions));
  return parts;
}

/** @param {Task} task */
function prompt(task) {
  const turns = task.messages.map(({ role, content }) => {
    const who = el("span", { class: "unseen" }, `${role}: `);
    return el("div", { class: role === "user" ? "question" : "answer" }, who, el("p", {}, content));
  });
  return el("section", { "aria-label": "Conversation" }, ...turns);
}

/** @param {string} classes @param {string} text */
function prose(classes, text) {
  const element = el("div", { class: classes });
  renderMarkdown(element, text);
  return element;
}

/** @param {Task} task @param {(answer: Answer) => Node | null} control */
function cards(task, control) {
  const drawn = task.answers.map((answer) => {
    const title = answer.side === null ? "Answer" : `Answer ${answer.side.toUpperCase()}`;
    const header = el("header", {}, el("h2", {}, title), control(answer));
    return el("article", { class: "card" }, header, prose("prose", answer.content));
  });
  return el("div", { class: drawn.length === 2 ? "cards" : "cards many" }, ...drawn);
}

/**
 * One of a few values, by a button or its key.
 * @param {Choice[]} choices
 * @returns {(task: Task, answer: (value: unknown) => void) => {body: HTMLElement[], controls: HTMLElement[]}}
 */
function chosen(choices) {
  return (task, answer) => ({
    body: [cards(task, () => null)],
    controls: choices.map(({ label, key, value }) => {
      const shortcut = { "data-key": key, "aria-keyshortcuts": key };
      const hint = el("kbd", { "aria-hidden": "true" }, key);
      return el("button", { type: "button", ...shortcut, onclick: () => answer(value) }, label, hint);
    }),
  });
}

/** Every answer gets a place; equal places are ties. @param {Task} task @param {(value: unknown) => void} answer */
function ranked(task, answer) {
  const places = task.answers.map((_, index) => index + 1);
  const selects = new Map(task.answers.map(({ side }) => [side, el("select", { class: "place" },
    el("option", { value: "" }, "–"), ...places.map((place) => el("option", { value: place }, String(place))))]));
  const body = cards(task, ({ side }) => el("label", {}, "Place", selects.get(side)));
  const submit = el("button", { type: "button", class: "primary", onclick: () => {
    const at = (/** @type {number} */ place) => [...selects].filter(([, it]) => it.value === String(place));
    const groups = places.map((place) => at(place).map(([side]) => side)).filter((group) => group.length > 0);
    if (groups.flat().length === task.answers.length) answer(groups);
    else toast("Give every answer a place; equal answers may share one.");
  } }, "Send the ranking");
  const keys = el("p", { class: "note" }, `Or press 1 to ${places.length} for one answer after the other.`);
  return { body: [keys, body], controls: [submit] };
}

/** A number key gives its place to the answer in focus, else to the first without one, and goes on to the next. */
function place(/** @type {KeyboardEvent} */ event) {
  const selects = /** @type {HTMLSelectElement[]} */ ([...document.querySelectorAll("select.place")]);
  const focused = selects.find((select) => select === event.target);
  const select = focused ?? selects.find(({ value }) => value === "");
  if (select === undefined || !/^[1-9]$/.test(event.key) || Number(event.key) > selects.length) return false;
  event.preventDefault();
  select.value = event.key;
  const after = selects.find(({ value }) => value === "") ?? document.querySelector(".judge .primary");
  /** @type {HTMLElement} */ (after).focus();
  return true;
}

/** @param {Task} task @param {(value: unknown) => void} answer */
function corrected(task, answer) {
  const text = el("textarea", { class: "correction", id: "correction" });
  text.value = task.answers[0].content;
  const attributes = { type: "button", class: "primary", onclick: () => answer(text.value) };
  const submit = el("button", attributes, "Send the correction");
  text.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit.click();
  });
  const label = el("label", { for: "correction", class: "unseen" }, "The answer as it should be");
  submit.append(el("kbd", { "aria-hidden": "true" }, "Ctrl ↵"));
  return { body: [cards(task, () => null), label, text], controls: [submit] };
}

// --- start -------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || place(event)) return;
  if (event.target instanceof HTMLElement && event.target.closest("input, select, textarea")) return;
  const button = /** @type {HTMLElement | null} */ (document.querySelector(`[data-key="${CSS.escape(event.key)}"]`));
  if (button !== null) button.click();
});

byId("who").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  rater = byId("rater").value.trim();
  if (rater === "") return;
  try {
    sessionStorage.setItem(KEPT, rater);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error; // storage is blocked: asked again next time
  }
  next();
});

try {
  byId("rater").value = sessionStorage.getItem(KEPT) ?? "";
} catch (error) {
  if (!(error instanceof DOMException)) throw error;
}
