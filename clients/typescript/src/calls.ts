/**
 * One call of the API: how it is made, what may be tried again, and what goes wrong. Needs `fetch` and `crypto` of the
 * platform and nothing else.
 */
import type { FieldError, Problem as ProblemDocument } from "./api.js";

/** What each call can be given. */
export interface Options {
  /** Ends the call, whatever it waits for. */
  signal?: AbortSignal | undefined;
}

/** One call, as the operations tell it. */
export interface Call {
  method: string;
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  headers?: Record<string, string | undefined>;
  /** Whether doing it twice is doing it once: reads, and writes with a key. */
  tryAgain?: boolean;
  /** What is no failure, beside 2xx. */
  answers?: number[];
  options: Options;
}

/** A value, and what to ask with whether it has changed. */
export interface Tagged<T> {
  value: T;
  etag: string;
}

/** A page of a list. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

/** A list: its items, whatever pages they come in. */
export interface Pages<T> extends AsyncIterable<T> {
  /** Page by page, each with the cursor at which the next one begins. */
  pages(): AsyncGenerator<Page<T>, void, undefined>;
}

/** How a client calls. */
export interface Settings {
  /** A JWT, or what gives one: it is asked before each attempt. Absent: as anybody. */
  token?: string | (() => string | null | Promise<string | null>);
  /** How often a call is tried at the most; 4 by default. */
  attempts?: number;
  /** How long a call may take with all of its attempts and pauses; 60,000 by default. */
  timeoutMs?: number;
  /** How long one attempt may take; 30,000 by default. */
  attemptTimeoutMs?: number;
  /** In place of the platform's. */
  fetch?: typeof globalThis.fetch;
  /** In place of the platform's, which Node has from version 22 on. */
  WebSocket?: typeof globalThis.WebSocket;
}

/** What the server refused, by RFC 9457. */
export class Problem extends Error {
  override readonly name = "Problem";
  constructor(
    /** The HTTP status. */
    readonly status: number,
    /** What it is, such as `seats_unavailable`; `http_<status>` if it was not the server who answered. */
    readonly code: string,
    /** What is wrong with which field of the request. */
    readonly fields: FieldError[],
    /** All that was said, such as `conflicts`. */
    readonly problem: Partial<ProblemDocument>,
    /** After how long it may be tried again, if that was said. */
    readonly retryAfterMs: number | undefined,
  ) {
    super(`${status} ${code}: ${problem.detail ?? problem.title ?? "no problem document"}`);
  }
}

/** There was no answer, as often as it was tried. A write may have been done. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

/** A key that nobody else makes. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A part of a path, whatever is in it. Throws `RangeError` for dots, which lead elsewhere however they are written. */
export function pathOf(part: string): string {
  if (part === "." || part === "..") throw new RangeError(`not an id: ${part}`);
  return encodeURIComponent(part);
}

/** Waits, but not longer than `signal` lets it. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const end = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, ms);
    signal?.addEventListener("abort", end, { once: true });
  });
}

/** How long to wait after so many failures in a row: up to 0.25 s, 0.5 s and so on to 8 s, by chance: not all at once. */
export function backoffMs(failures: number): number {
  return Math.random() * Math.min(8_000, 250 * 2 ** (failures - 1));
}

/** Makes calls to one server. */
export class Caller {
  /** Without a slash at its end. */
  readonly url: string;

  constructor(
    url: string,
    readonly settings: Settings,
  ) {
    this.url = url.replace(/\/+$/, "");
  }

  async token(): Promise<string | null> {
    const { token } = this.settings;
    return (typeof token === "function" ? await token() : token) ?? null;
  }

  async json<T>(call: Call): Promise<T> {
    return this.call(call, "application/json", async (response) =>
      response.status === 204 ? (undefined as T) : ((await response.json()) as T),
    );
  }

  text(call: Call): Promise<string> {
    return this.call(call, "text/csv", (response) => response.text());
  }

  changed<T>(call: Call, etag?: string): Promise<Tagged<T> | undefined> {
    const conditional = { ...call, headers: { ...call.headers, "If-None-Match": etag }, answers: [304] };
    return this.call(conditional, "application/json", async (response) =>
      response.status === 304
        ? undefined
        : { value: (await response.json()) as T, etag: response.headers.get("ETag") ?? "" },
    );
  }

  pages<T>(call: Call): Pages<T> {
    // `this` of the generators is not that of the caller.
    const json = (query: Call["query"]) => this.json<Page<T>>({ ...call, query });
    const pages = async function* () {
      let query = call.query;
      for (;;) {
        const page = await json(query);
        yield page;
        if (page.next_cursor === null) return;
        query = { ...query, cursor: page.next_cursor };
      }
    };
    return {
      pages,
      async *[Symbol.asyncIterator]() {
        for await (const page of pages()) yield* page.items;
      },
    };
  }

  private async call<T>(call: Call, accept: string, read: (response: Response) => Promise<T>): Promise<T> {
    const { attempts = 4, timeoutMs = 60_000 } = this.settings;
    // Whoever asks the server to wait, waits as well.
    const waits = Number(call.query?.["wait_seconds"] ?? 0) * 1000;
    const deadline = Date.now() + timeoutMs + waits;
    for (let attempt = 1; ; attempt++) {
      const failure = await this.attempt(call, accept, read, deadline, waits).catch((error: unknown) => {
        call.options.signal?.throwIfAborted();
        if (error instanceof Problem || error instanceof Unreachable) return error;
        throw error;
      });
      if (!(failure instanceof Problem || failure instanceof Unreachable)) return failure;
      const mayPass = failure instanceof Unreachable || failure.status === 429 || failure.status === 503;
      const asked = failure instanceof Problem ? (failure.retryAfterMs ?? 0) : 0;
      const wait = asked + backoffMs(attempt);
      if (!call.tryAgain || !mayPass || attempt >= attempts || Date.now() + wait >= deadline) throw failure;
      await pause(wait, call.options.signal);
    }
  }

  private async attempt<T>(
    call: Call,
    accept: string,
    read: (response: Response) => Promise<T>,
    deadline: number,
    waits: number,
  ): Promise<T> {
    const { attemptTimeoutMs = 30_000, fetch = globalThis.fetch } = this.settings;
    const headers = new Headers({ Accept: accept });
    for (const [name, value] of Object.entries(call.headers ?? {})) if (value !== undefined) headers.set(name, value);
    const token = await this.token();
    if (token !== null) headers.set("Authorization", `Bearer ${token}`);
    if (call.body !== undefined) headers.set("Content-Type", "application/json");
    const query = Object.entries(call.query ?? {}).filter(([, value]) => value !== undefined);
    const search = query.length > 0 ? `?${new URLSearchParams(query.map(([name, value]) => [name, String(value)]))}` : "";
    call.options.signal?.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort();
    const timer = setTimeout(abort, Math.min(attemptTimeoutMs + waits, deadline - Date.now()));
    call.options.signal?.addEventListener("abort", abort);
    try {
      const response = await fetch(this.url + call.path + search, {
        method: call.method,
        headers,
        body: call.body === undefined ? null : JSON.stringify(call.body),
        signal: controller.signal,
      });
      if (!response.ok && !call.answers?.includes(response.status)) throw await problemOf(response);
      return await read(response);
    } catch (error) {
      if (error instanceof Problem) throw error;
      throw new Unreachable(`no answer to ${call.method} ${call.path}`, { cause: error });
    } finally {
      clearTimeout(timer);
      call.options.signal?.removeEventListener("abort", abort);
    }
  }
}

async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text();
  let said: Partial<ProblemDocument> = {};
  if (response.headers.get("Content-Type")?.startsWith("application/problem+json")) said = JSON.parse(text);
  const code = said.code ?? `http_${response.status}`;
  return new Problem(response.status, code, said.errors ?? [], said, retryAfterMs(response.headers.get("Retry-After")));
}

/** Of `Retry-After`: seconds, or a time. */
function retryAfterMs(header: string | null): number | undefined {
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
