/** Asking the live policy, and asking for a blind comparison; both stream. */

import { events } from "./events";
import { json, send } from "./send";
import { asRater } from "./session";

export interface Message {
  role: "user" | "assistant";
  content: string;
}

export interface Chunk {
  id: string;
  model: string;
  text: string;
  finishReason: string | null;
}

export type ComparisonEvent = { id: string } | { side: "a" | "b"; delta?: string; finish_reason?: string | null };

interface WireChunk {
  id: string;
  model: string;
  choices: { delta: { content?: string | null }; finish_reason?: string | null }[];
}

const ALIAS = "assistant";

/**
 * Asks the live policy. `recorded` is false when the server could not keep the answer, so that no vote can reach it.
 * @param regenerates the completion that was not good enough: asking again is a signal too
 */
export async function chat(
  messages: Message[],
  regenerates: string | null,
  signal: AbortSignal,
): Promise<{ recorded: boolean; chunks: AsyncGenerator<Chunk> }> {
  const metadata = regenerates === null ? {} : { metadata: { regenerates } };
  const body = { model: ALIAS, messages, stream: true, ...metadata };
  const response = await asRater("v1/chat/completions", { method: "POST", body, signal });
  return { recorded: response.headers.get("x-feedback-status") !== "unavailable", chunks: chunks(response) };
}

async function* chunks(response: Response): AsyncGenerator<Chunk> {
  for await (const { id, model, choices } of events<WireChunk>(response)) {
    const choice = choices[0];
    if (choice === undefined) continue; // usage alone
    yield { id, model, text: choice.delta.content ?? "", finishReason: choice.finish_reason ?? null };
  }
}

/**
 * Two blind answers to one conversation, each from a policy that the server picks: first the comparison's id, then what
 * each side gains and its end. The server shows both at one pace.
 */
export async function* compare(messages: Message[], signal: AbortSignal): AsyncGenerator<ComparisonEvent> {
  const response = await asRater("v1/comparisons", { method: "POST", body: { messages, stream: true }, signal });
  yield* events<ComparisonEvent>(response);
}

/** The name of the policy that `assistant` stands for now, e.g. `assistant@v3`; null while there is none. */
export async function livePolicy(): Promise<string | null> {
  const response = await send("v1/models", { signal: AbortSignal.timeout(5000) });
  const { data } = await json<{ data: { id: string; parent?: string | null }[] }>(response);
  return data.find((model) => model.id === ALIAS)?.parent ?? null;
}
