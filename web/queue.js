// A place in the line until it is one's turn. The server knows it, so that reloads keep it.

import { api, ask, get, now, session } from "./api.js";
import { button, every, h, heading, icon, put } from "./dom.js";
import { about, countdown, momentThere, t } from "./i18n.js";
import { followToken } from "./live.js";

const tokens = new Map();

export function passFor(concert) {
	const token = tokens.get(concert.id);
	return token?.status === "active" ? { "Queue-Token": token.token } : undefined;
}

export const passEnds = (concert) => tokens.get(concert.id)?.expires_at ?? null;

// Whether one was inside and waits again. To ask is a sign of life.
export async function isSentBack(concert) {
	return (await get(`/v1/tokens/${tokens.get(concert.id).id}`)).status === "waiting";
}

// Returns how to stop.
export function wait(concert, room, { enter, fail, leave }) {
	let stop = () => {};
	let isOver = false;

	async function begin() {
		try {
			// It may be the place that there is.
			const { value: token } = await ask("POST", `/v1/concerts/${concert.id}/tokens`);
			tokens.set(concert.id, token);
			if (isOver) return;
			if (token.status === "active") return over(enter);
			const line = new Line(concert, token, room, leave);
			const onToken = (next) => {
				tokens.set(concert.id, { ...tokens.get(concert.id), ...next });
				if (next.status === "active") over(enter);
				else if (next.status === "waiting") line.show(next);
				else over(() => line.lapsed(restart));
			};
			const ends = [followToken(api, token.id, onToken), every(1000, () => line.tick())];
			stop = () => ends.forEach((end) => end());
		} catch (problem) {
			if (!isOver) fail(problem);
		}
	}

	function over(then) {
		stop();
		if (isOver) return;
		isOver = true;
		then();
	}

	function restart() {
		isOver = false;
		begin();
	}

	begin();
	return () => {
		isOver = true;
		stop();
	};
}

class Line {
	constructor(concert, token, room, leave) {
		Object.assign(this, { concert, room, first: token.ahead });
		this.position = h("strong#position.position");
		this.ahead = h("p.muted");
		this.expected = h("p.expected");
		this.bar = h("div.bar", { role: "progressbar", "aria-label": t("line_progress"), "aria-valuemin": "0", "aria-valuemax": "100" }, h("div"));
		this.note = h("p.muted.note");
		this.said = h("p.unseen", { "aria-live": "polite" });
		put(room,
			h("section.line.card",
				heading(t("line_title")),
				h("p.lead", concert.title),
				h("div.place", h("span.muted", t("line_position")), this.position, this.ahead),
				this.bar, this.expected, this.note,
				h("ul.promises",
					["line_keep", "line_fair", "line_enter"].map((key) => h("li", icon("check"), t(key)))),
				button("#leave.button.quiet", leave, t("line_leave")), this.said));
		this.show(token);
	}

	show(token) {
		this.token = token;
		const { position, ahead } = token;
		const isOpen = position !== null;
		this.position.textContent = isOpen ? t("line_number", { position }) : "–";
		this.ahead.textContent = isOpen ? (ahead === 0 ? t("line_next") : t("line_ahead", { n: ahead })) : t("line_shuffled", { n: token.queue_size });
		if (isOpen && this.first === null) this.first = ahead;
		this.first = Math.max(this.first ?? 0, ahead ?? 0);
		const percent = isOpen ? Math.round(100 - (100 * (ahead + 0.5)) / (this.first + 1)) : 0;
		this.bar.firstChild.style.width = `${percent}%`;
		this.bar.setAttribute("aria-valuenow", percent);
		const said = isOpen ? this.ahead.textContent : "";
		if (this.said.textContent !== said) this.said.textContent = said;
		this.tick();
	}

	tick() {
		const { waiting_room: settings } = this.concert;
		const opens = settings.opens_at ? Date.parse(settings.opens_at) - now() : 0;
		const wait = this.token.expected_wait_seconds;
		if (opens > 0) this.expected.textContent = opens < 3600_000 ? t("line_opens_in", { time: countdown(opens) }) : t("line_opens_at", { time: momentThere(settings.opens_at, this.concert.time_zone) });
		else this.expected.textContent = wait === null ? "" : t("line_expected", { time: about(wait) });
		this.note.textContent = wait === null && opens <= 0 ? t("line_unknown") : "";
	}

	lapsed(again) {
		put(this.room, h("section.line.card",
			heading(t("line_lapsed")),
			h("p", t("line_lapsed_text")),
			button(".button", again, t("line_again"))));
	}
}

export async function leaveLine(concert) {
	const token = tokens.get(concert.id);
	tokens.delete(concert.id);
	if (token && session.token) await ask("DELETE", `/v1/tokens/${token.id}`);
}
