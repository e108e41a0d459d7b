/** A WebSocket as a sequence of messages. */
import { type Caller, Unreachable } from "./calls.js";

/** What this platform connects with. */
export function webSocketOf(caller: Caller): typeof WebSocket | undefined {
  return caller.settings.WebSocket ?? globalThis.WebSocket;
}

/**
 * The messages of one connection, until it ends: by itself, by `signal`, or because nothing came for `silenceMs`. Ends with
 * `Unreachable` unless it was ever open. `take` sees each message when it comes, however slow the reader is; what it has not
 * read yet is one, not many.
 */
export async function* wakes(
  caller: Caller,
  path: string,
  protocols: string[],
  silenceMs: number,
  signal: AbortSignal | undefined,
  take: (message: unknown) => void,
): AsyncGenerator<void, void, undefined> {
  const WebSocket = webSocketOf(caller);
  if (WebSocket === undefined) {
    throw new Error("this platform has no WebSocket: pass one as `WebSocket`, or take Node 22 or later");
  }
  signal?.throwIfAborted();
  const socket = new WebSocket(caller.url.replace(/^http/, "ws") + path, protocols);
  let [opened, news, ended] = [false, false, false];
  let failure: unknown;
  let wake = () => {};
  let timer: ReturnType<typeof setTimeout> | undefined;
  const end = () => {
    ended = true;
    wake();
  };
  // Who is silent may be gone without a word: the pings of the server are not shown to scripts.
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(end, silenceMs);
  };
  socket.addEventListener("open", () => (opened = true));
  socket.addEventListener("message", (event) => {
    // What comes after the end must not keep a program from its own.
    if (ended) return;
    listen();
    try {
      take(JSON.parse(String(event.data)));
      news = true;
    } catch (error) {
      failure = error;
      ended = true;
    }
    wake();
  });
  socket.addEventListener("error", end);
  socket.addEventListener("close", end);
  signal?.addEventListener("abort", end);
  listen();
  try {
    for (;;) {
      if (!news && !ended) await new Promise<void>((resolve) => (wake = resolve));
      signal?.throwIfAborted();
      if (news) {
        news = false;
        yield;
      } else if (ended) {
        if (failure !== undefined) throw failure;
        if (!opened) throw new Unreachable(`no connection to ${path}`);
        return;
      }
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
    ended = true;
    socket.close();
  }
}
