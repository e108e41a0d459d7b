/** Deliveries of events, by Standard Webhooks 1.0. */
import type { Event } from "./api.js";

/** A delivery that is not what it says, or not of now. It must not be believed. */
export class WebhookInvalid extends Error {
  override readonly name = "WebhookInvalid";
}

/** How a delivery is checked. */
export interface VerifyOptions {
  /** How far its time may be from now, either way; 300 by default. */
  toleranceSeconds?: number;
  /** The time, in milliseconds; that of the platform by default. */
  now?: number;
}

/**
 * What was delivered, if one of the secrets signed it. While a secret is being rotated deliveries have two signatures, so
 * that the old one and the new one are each good by itself; more than one secret may be given all the same.
 *
 * @param body what was received, byte by byte: not what JSON makes of it
 * @returns the event; of the format `batch` a list of them, and of a template what it made: then say so by `T`
 * @throws WebhookInvalid
 */
export async function verifyWebhook<T = Event>(
  secrets: string | readonly string[],
  headers: Headers | Record<string, string | string[] | undefined>,
  body: string | Uint8Array,
  { toleranceSeconds = 300, now = Date.now() }: VerifyOptions = {},
): Promise<T> {
  const [id, time, signatures] = ["webhook-id", "webhook-timestamp", "webhook-signature"].map((name) => header(headers, name));
  if (!id || !time || !signatures) throw new WebhookInvalid("a header is missing");
  if (!/^\d{1,15}$/.test(time)) throw new WebhookInvalid("its time is none");
  if (Math.abs(now / 1000 - Number(time)) > toleranceSeconds) throw new WebhookInvalid("its time is too far from now");
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const head = new TextEncoder().encode(`${id}.${time}.`);
  const signed = new Uint8Array(head.length + bytes.length);
  signed.set(head);
  signed.set(bytes, head.length);
  const given = signatures.split(" ").filter((it) => it.startsWith("v1,")).map((it) => decode(it.slice(3)));
  for (const secret of typeof secrets === "string" ? [secrets] : secrets) {
    const raw = decode(secret.replace(/^whsec_/, ""));
    if (raw === undefined || raw.length === 0) throw new TypeError("a secret is `whsec_` and Base64");
    const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    for (const signature of given) {
      // Takes as long for the first wrong byte as for the last.
      if (signature && (await crypto.subtle.verify("HMAC", key, signature, signed))) {
        return JSON.parse(new TextDecoder().decode(bytes)) as T;
      }
    }
  }
  throw new WebhookInvalid("none of its signatures is by a secret of ours");
}

function header(headers: Headers | Record<string, string | string[] | undefined>, name: string): string | undefined {
  if (typeof (headers as Headers).get === "function") return (headers as Headers).get(name) ?? undefined;
  const found = Object.entries(headers).find(([key]) => key.toLowerCase() === name)?.[1];
  return Array.isArray(found) ? found[0] : found;
}

function decode(base64: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
