// The API: who calls, what may be sent again, and problems in words.

import { tellTabs } from "./choice.js";
import { has, t } from "./i18n.js";

const KEPT = "boxoffice.token";
const PLACE = "boxoffice.place";
// Where tabs show what has changed.
const ORDERS = /\/(reservations|payments)\b/;
const TRIES = 4;

// A refusal, or that the server could not be reached (`offline`).
class Problem extends Error {
	constructor(status, body, retryAfter = null) {
		super(body.detail ?? body.code);
		Object.assign(this, { status, body, code: body.code, retryAfter });
	}

	get words() {
		const key = `problem_${this.code}`;
		const n = this.body.conflicts?.length;
		const other = this.status < 500 ? "problem_invalid_request" : "problem_internal";
		return t(has(key) ? key : other, { ...this.body, ...(n && { n }) });
	}
}

function claimsOf(token) {
	try {
		const bytes = Uint8Array.from(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
		const claims = JSON.parse(new TextDecoder().decode(bytes));
		return typeof claims.sub === "string" && claims.exp * 1000 > Date.now() ? claims : null;
	} catch {
		return null;
	}
}

export const session = {
	token: null,
	user: null,
	// Null of buyers.
	role: null,

	// The token in the address does not stay there.
	begin() {
		const given = /^#(?:.*&)?token=([^&]+)/.exec(location.hash);
		if (given) {
			// Where one was before the host asked who one is.
			const place = sessionStorage.getItem(PLACE) ?? "";
			sessionStorage.removeItem(PLACE);
			history.replaceState(null, "", location.pathname + location.search + place);
			if (this.take(decodeURIComponent(given[1]))) return;
		}
		this.take(sessionStorage.getItem(KEPT));
	},

	// False if it is none, or over.
	take(token) {
		const claims = token ? claimsOf(token.trim()) : null;
		if (!claims) return false;
		this.token = token.trim();
		this.user = claims.sub;
		this.role = claims.role ?? null;
		sessionStorage.setItem(KEPT, this.token);
		return true;
	},

	end() {
		sessionStorage.removeItem(KEPT);
		this.token = this.user = this.role = null;
	},

	// Set by the page.
	needed() {},
};

let behind = 0;

// The server's time, to half a second.
export const now = () => Date.now() + behind;

function learnTime(response) {
	// It comes in whole seconds, so a small difference says nothing.
	const ahead = Date.parse(response.headers.get("date")) + 500 - Date.now();
	if (Math.abs(ahead) > 2000) behind = ahead;
}

// So that not everybody comes at once.
export const jittered = (milliseconds) => milliseconds * (0.75 + Math.random() / 2);

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, jittered(milliseconds)));

export function newKey() {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function once(method, path, { body, headers = {}, etag }) {
	const all = { ...headers };
	if (session.token) all.Authorization = `Bearer ${session.token}`;
	if (body !== undefined) all["Content-Type"] = method === "PATCH" ? "application/merge-patch+json" : "application/json";
	if (etag) all["If-None-Match"] = etag;
	// It is the server that compares tags.
	const cache = etag ? "no-store" : "default";
	let response;
	try {
		response = await fetch(path, { method, headers: all, body: JSON.stringify(body), cache });
	} catch {
		throw new Problem(0, { code: "offline" }, 1);
	}
	learnTime(response);
	if (response.status === 304) return { unchanged: true };
	const text = await response.text();
	const isJson = /json/.test(response.headers.get("content-type"));
	const value = text ? (isJson ? JSON.parse(text) : text) : null;
	if (!response.ok) throw new Problem(response.status, value ?? { code: "internal" }, Number(response.headers.get("retry-after")) || null);
	return { value, etag: response.headers.get("etag") };
}

// Asks again where that is safe: for a write, with a key.
export async function ask(method, path, options = {}) {
	const repeatable = method === "GET" || options.headers?.["Idempotency-Key"] !== undefined;
	for (let tried = 1; ; tried += 1) {
		try {
			const answer = await once(method, path, options);
			if (method !== "GET" && ORDERS.test(path)) tellTabs();
			return answer;
		} catch (problem) {
			if (problem.status === 401) {
				session.end();
				session.needed(problem);
			}
			const passing = [0, 429, 503].includes(problem.status);
			if (!repeatable || !passing || tried === TRIES || problem.retryAfter > 10) throw problem;
			await pause(1000 * (problem.retryAfter ?? 1));
		}
	}
}

export const get = async (path, options) => (await ask("GET", path, options)).value;

export const post = async (path, body = {}, key = newKey(), headers = {}) =>
	(await ask("POST", path, { body, headers: { ...headers, "Idempotency-Key": key } })).value;

export const patch = async (path, body) => (await ask("PATCH", path, { body })).value;

export const remove = async (path) => (await ask("DELETE", path)).value;

let site = null;

// The page of the host where one signs in; null where there is none.
export async function loginPage() {
	site ??= get("/v1/site").catch((problem) => {
		if (problem.status !== 404) site = null;
		return {};
	});
	const { login_url: page } = await site;
	return page && URL.canParse(page) && /^https?:$/.test(new URL(page).protocol) ? page : null;
}

// From there one comes back with a token, to where one was.
export function goTo(page) {
	const back = new URL(page);
	back.searchParams.set("return_to", location.origin + location.pathname + location.search);
	sessionStorage.setItem(PLACE, location.hash);
	location.assign(back);
}
