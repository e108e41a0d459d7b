// Calls of the API of one server: what may be sent again, and what its refusals say. Knows nothing of the page.

const TRIES = 4;

// A refusal, or that the server could not be reached (`offline`).
class Problem extends Error {
	#tongue;

	constructor(tongue, status, body, retryAfter = null) {
		super(body.detail ?? body.code);
		this.#tongue = tongue;
		Object.assign(this, { status, body, code: body.code, retryAfter });
	}

	get problem() {
		return { status: this.status, ...this.body };
	}

	get words() {
		const { has, t } = this.#tongue;
		const key = `problem_${this.code}`;
		const n = this.body.conflicts?.length;
		const other = this.status < 500 ? "problem_invalid_request" : "problem_internal";
		return t(has(key) ? key : other, { ...this.body, ...(n && { n }) });
	}
}

// What a token says; null if it is none, or over.
export function claimsOf(token) {
	try {
		const bytes = Uint8Array.from(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
		const claims = JSON.parse(new TextDecoder().decode(bytes));
		return typeof claims.sub === "string" && claims.exp * 1000 > Date.now() ? claims : null;
	} catch {
		return null;
	}
}

// So that not everybody comes at once.
export const jittered = (milliseconds) => milliseconds * (0.75 + Math.random() / 2);

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, jittered(milliseconds)));

export function newKey() {
	return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Api {
	#behind = 0;

	// `base` is the origin of the server, or nothing for that of the page; `refused` is told of each 401, and may answer whether to try again; `written` of each write.
	constructor({ base, tongue, token, refused, written = () => {} }) {
		Object.assign(this, { base, tongue, token, refused, written });
	}

	// The server's time, to half a second.
	now = () => Date.now() + this.#behind;

	#learnTime(response) {
		// It comes in whole seconds, so a small difference says nothing.
		const ahead = Date.parse(response.headers.get("date")) + 500 - Date.now();
		if (Math.abs(ahead) > 2000) this.#behind = ahead;
	}

	problem(status, body, retryAfter) {
		return new Problem(this.tongue, status, body, retryAfter);
	}

	async #once(method, path, { body, headers = {}, etag }) {
		const all = { ...headers };
		const token = this.token();
		if (token) all.Authorization = `Bearer ${token}`;
		if (body !== undefined) all["Content-Type"] = method === "PATCH" ? "application/merge-patch+json" : "application/json";
		if (etag) all["If-None-Match"] = etag;
		// It is the server that compares tags.
		const cache = etag ? "no-store" : "default";
		let response;
		let text;
		try {
			response = await fetch(this.base + path, { method, headers: all, body: JSON.stringify(body), cache, credentials: "omit" });
			text = await response.text();
		} catch {
			throw this.problem(0, { code: "offline" }, 1);
		}
		this.#learnTime(response);
		if (response.status === 304) return { unchanged: true };
		const isJson = /json/.test(response.headers.get("content-type"));
		const value = text ? (isJson ? JSON.parse(text) : text) : null;
		if (!response.ok) throw this.problem(response.status, Object(value).code ? value : { code: "internal" }, Number(response.headers.get("retry-after")) || null);
		return { value, etag: response.headers.get("etag") };
	}

	// Asks again where that is safe: for a write, with a key.
	ask = async (method, path, options = {}) => {
		const repeatable = method === "GET" || options.headers?.["Idempotency-Key"] !== undefined;
		let isRenewed = false;
		for (let tried = 1; ; tried += 1) {
			try {
				const answer = await this.#once(method, path, options);
				if (method !== "GET") this.written(path);
				return answer;
			} catch (problem) {
				if (problem.status === 401 && !isRenewed) {
					isRenewed = true;
					if (await this.refused(problem)) continue;
				}
				const passing = [0, 429, 503].includes(problem.status);
				if (!repeatable || !passing || tried === TRIES || problem.retryAfter > 10) throw problem;
				await pause(1000 * (problem.retryAfter ?? 1));
			}
		}
	};

	get = async (path, options) => (await this.ask("GET", path, options)).value;

	post = async (path, body = {}, key = newKey(), headers = {}) =>
		(await this.ask("POST", path, { body, headers: { ...headers, "Idempotency-Key": key } })).value;

	patch = async (path, body) => (await this.ask("PATCH", path, { body })).value;

	remove = async (path) => (await this.ask("DELETE", path)).value;
}
