/**
 * The HTTP API as functions. Every failure is an ApiError whose message is a sentence for the person at the page;
 * an abort by the caller stays what it is, an AbortError.
 */

import { raterId } from "./rater.js";

/**
 * @typedef {{role: "user" | "assistant", content: string}} Message
 * @typedef {{id: string, model: string, text: string, finishReason: string | null}} Chunk
 * @typedef {{id: string} | {side: "a" | "b", delta?: string, finish_reason?: string | null}} ComparisonEvent
 * @typedef {{reveal?: {a: string, b: string}}} Feedback
 */

const ALIAS = "assistant";

export class ApiError extends Error {}

/**
 * @param {string} path relative to the page
 * @param {object | null} body sent as JSON by POST; null is a GET
 * @param {AbortSignal} [signal]
 */
async function request(path, body, signal) {
  const post = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, { ...(body === null ? {} : post), signal }).catch(unreachable);
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {Error} error @returns {never} */
function unreachable(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError("The server cannot be reached. Check that it is running, then try again.");
}

/**
 * What an answer that is not 2xx says: OpenAI's error shape, or at least the status.
 * @param {Response} response
 */
async function refusal(response) {
  const body = await response.json().catch(() => null);
  return new ApiError(body?.error?.message ?? `The server answered with status ${response.status}.`);
}

/** The body of a good answer. @param {Response} response */
function json(response) {
  return response.json().catch(unreachable);
}

/**
 * Asks the live policy. `recorded` is false when the server could not keep the answer, so that no vote can reach it.
 * @param {Message[]} messages
 * @param {AbortSignal} signal
 * @returns {Promise<{recorded: boolean, chunks: AsyncGenerator<Chunk>}>}
 */
export async function chat(messages, signal) {
  const body = { model: ALIAS, messages, stream: true, user: raterId };
  const response = await request("v1/chat/completions", body, signal);
  const recorded = response.headers.get("x-feedback-status") !== "unavailable";
  return { recorded, chunks: chunks(response) };
}

/** @param {Response} response @returns {AsyncGenerator<Chunk>} */
async function* chunks(response) {
  for await (const data of serverSentEvents(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message);
    const [choice] = chunk.choices;
    if (choice === undefined) continue; // usage alone
    const text = choice.delta.content ?? "";
    yield { id: chunk.id, model: chunk.model, text, finishReason: choice.finish_reason ?? null };
  }
  throw new ApiError("The connection closed before the answer was complete.");
}

/**
 * The data of each event of a text/event-stream. EventSource would do, but it cannot POST.
 * @param {Response} response
 */
async function* serverSentEvents(response) {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read().catch(brokenOff);
    if (done) return;
    const events = (buffer + value).split(/\r?\n\r?\n/);
    buffer = events.pop() ?? "";
    for (const event of events) {
      const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (lines.length > 0) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

/** @param {Error} error @returns {never} */
function brokenOff(error) {
  if (error.name === "AbortError") throw error;
  throw new ApiError("The connection broke off before the answer was complete.");
}

/**
 * Two blind answers to one conversation, each from a policy that the server picks: first the comparison's id, then what
 * each side gains and its end. The server shows both at one pace.
 * @param {Message[]} messages
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ComparisonEvent>}
 */
export async function* compareStream(messages, signal) {
  const response = await request("v1/comparisons", { messages, user: raterId, stream: true }, signal);
  for await (const data of serverSentEvents(response)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError(event.error.message);
    yield event;
  }
  throw new ApiError("The connection closed before the answers were complete.");
}

/**
 * @param {string} id of a completion
 * @param {1 | -1} value
 */
export async function voteThumb(id, value) {
  const target = { type: "completion", id, choice_index: 0 };
  await request("v1/feedback", { target, kind: "thumb", value, rater: { id: raterId } });
}

/**
 * @param {string} id of a comparison
 * @param {"a" | "b" | "tie"} value
 * @returns {Promise<Feedback>}
 */
export async function votePreference(id, value) {
  const target = { type: "comparison", id };
  return json(await request("v1/feedback", { target, kind: "preference", value, rater: { id: raterId } }));
}

/**
 * The name of the policy that `assistant` stands for now, e.g. `assistant@v3`; null while there is none.
 * @returns {Promise<string | null>}
 */
export async function livePolicy() {
  const { data } = await json(await request("v1/models", null, AbortSignal.timeout(5000)));
  return data.find((/** @type {{id: string}} */ model) => model.id === ALIAS)?.parent ?? null;
}
