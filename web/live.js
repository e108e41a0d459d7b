// What changes while somebody looks: over a WebSocket, or by asking again and again.

import { jittered, pause } from "./call.js";

const RETRY_MS = [500, 1000, 2000, 5000, 10000];
const POLL_MS = 2000;

// Opens a socket again whenever it closes; `poll` runs while there is none. `receive` answers false to begin anew.
function keepOpen(api, path, protocols, { receive, poll }) {
	let socket = null;
	let failures = 0;
	let closed = false;
	let retry = 0;
	let polling = false;

	async function keepPolling() {
		if (polling) return;
		polling = true;
		while (!closed && socket?.readyState !== WebSocket.OPEN) {
			let wanted = POLL_MS;
			try {
				if (!document.hidden) wanted = (await poll()) ?? POLL_MS;
			} catch (problem) {
				wanted = 1000 * (problem.retryAfter ?? 5);
			}
			await pause(wanted);
		}
		polling = false;
	}

	function connect() {
		if (closed) return;
		const url = new URL(api.base + path(), location.href);
		url.protocol = url.protocol.replace("http", "ws");
		const mine = new WebSocket(url, protocols());
		socket = mine;
		mine.onopen = () => (failures = 0);
		mine.onmessage = (event) => {
			if (socket === mine && receive(JSON.parse(event.data)) === false) mine.close();
		};
		// One that a site's policy forbids has an error and no end.
		mine.onerror = mine.onclose = () => {
			if (closed || socket !== mine) return;
			socket = null;
			// One that breaks off may come back at once; without one it goes on by asking.
			if (failures > 0) keepPolling();
			retry = setTimeout(connect, jittered(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
			failures += 1;
		};
	}

	connect();
	return () => {
		closed = true;
		clearTimeout(retry);
		socket?.close();
	};
}

// `onAll` gets everything that is taken, `onSome` what has changed.
export function followSeats(api, option, { onAll, onSome }) {
	let seq = null;
	let etag = null;
	let received = 0;

	function receive(message) {
		received += 1;
		if (message.type === "snapshot") {
			seq = message.seq;
			onAll(message);
		} else if (message.type === "delta") {
			// A gap: asked for anew from the last known `seq`.
			if (message.previous_seq !== seq) return false;
			seq = message.seq;
			onSome(message);
		}
	}

	async function poll() {
		const before = received;
		const answer = await api.ask("GET", `/v1/options/${option}/seats`, { etag });
		// What the socket has told meanwhile is newer.
		if (answer.unchanged || received !== before) return;
		etag = answer.etag;
		seq = answer.value.seq;
		onAll(answer.value);
	}

	// The picture is there before a socket is.
	poll().catch(() => {});
	const path = () => `/v1/options/${option}/live${seq === null ? "" : `?since=${seq}`}`;
	return keepOpen(api, path, () => [], { receive, poll });
}

export function followToken(api, id, onToken) {
	const poll = async () => {
		const token = await api.get(`/v1/tokens/${id}`);
		onToken(token);
		return token.refresh_interval_seconds * 1000;
	};
	const receive = (message) => {
		if (message.type === "token") onToken(message);
	};
	return keepOpen(api, () => `/v1/tokens/${id}/live`, () => ["bearer", api.token()], { receive, poll });
}
