/** Server-sent events of a POST, which EventSource cannot send. */

import { ApiError, isAbort } from "./send";

interface Failure {
  error?: { message: string };
}

/** The JSON of each event up to `[DONE]`; an error event, or an end without `[DONE]`, is an ApiError. */
export async function* events<T>(response: Response): AsyncGenerator<T> {
  for await (const data of lines(response)) {
    if (data === "[DONE]") return;
    const event = JSON.parse(data) as T;
    const { error } = event as Failure;
    if (error) throw new ApiError(error.message);
    yield event;
  }
  throw new ApiError("The connection closed before the answer was complete.");
}

/** The data of each event of a text/event-stream. */
async function* lines(response: Response): AsyncGenerator<string> {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read().catch(brokenOff);
    if (done) return;
    const parts = (buffer + value).split(/\r?\n\r?\n/);
    buffer = parts.pop() ?? "";
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length > 0) yield data.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

function brokenOff(error: unknown): never {
  if (isAbort(error)) throw error;
  throw new ApiError("The connection broke off before the answer was complete.");
}
