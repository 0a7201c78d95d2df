/**
 * One request to the API. Every failure is an ApiError whose message is a sentence for the person at the page; an abort
 * by the caller stays what it is, an AbortError.
 */

export class ApiError extends Error {
  /** @param status 0 where no answer came. @param code OpenAI's `error.code`, for programs. */
  constructor(
    message: string,
    readonly status = 0,
    readonly code: string | null = null,
    readonly body: unknown = null,
  ) {
    super(message);
  }
}

export interface Options {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** The request outlives the page: for what is sent while it is being left. */
  keepalive?: boolean;
}

/** Sends to `path`, relative to the page, and resolves to the answer if it is 2xx. */
export async function send(
  path: string,
  { method = "GET", body, headers = {}, ...rest }: Options = {},
): Promise<Response> {
  const json = body === undefined ? {} : { body: JSON.stringify(body) };
  const typed = body === undefined ? headers : { "content-type": "application/json", ...headers };
  const response = await fetch(path, { method, headers: typed, credentials: "same-origin", ...json, ...rest }).catch(
    unreachable,
  );
  if (!response.ok) throw await refusal(response);
  return response;
}

/** The body of a good answer. */
export async function json<T>(response: Response): Promise<T> {
  return (await response.json().catch(unreachable)) as T;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

function unreachable(error: unknown): never {
  if (isAbort(error)) throw error;
  throw new ApiError("The server cannot be reached. Check that it is running, then try again.");
}

/** What an answer that is not 2xx says: OpenAI's error shape, or at least the status. */
async function refusal(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => null)) as {
    error?: { message?: string; code?: string | null };
  } | null;
  const message = body?.error?.message ?? `The server answered with status ${response.status}.`;
  const wait = response.status === 429 ? Number(response.headers.get("retry-after")) : 0;
  const later = wait > 0 ? ` Try again in ${wait} s.` : "";
  return new ApiError(message + later, response.status, body?.error?.code ?? null, body);
}
