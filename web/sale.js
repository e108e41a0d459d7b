// The page of one performance: the line before it, its hall, and what of it is kept.

import { api, get, now, post, session } from "./api.js";
import { heed, keep, kept } from "./choice.js";
import { begins } from "./dates.js";
import { button, confirm, h, heading, icon, put, statusOf, toast } from "./dom.js";
import { Hall } from "./hall.js";
import { countdown, date, number, money, page, t, time } from "./i18n.js";
import { placesOf } from "./names.js";
import { isSentBack, leaveLine, passEnds, passFor, wait } from "./queue.js";

export class SaleView extends Hall {
	pass = h("p.pass.muted");

	constructor(app, option) {
		super(app, "main.sale", option, api, page);
		this.guard(this.begin());
	}

	async begin() {
		await this.read();
		if (this.isClosed) return;
		if (!this.hasLine) return this.enter();
		if (!session.token) return this.askWho();
		const fail = (problem) => this.app.fail(problem, this.node);
		this.ending.push(wait(this.concert, this.node, { enter: () => this.guard(this.enter()), fail, leave: () => this.leave() }));
	}

	get hasLine() {
		return this.concert.waiting_room.mode !== "open" && this.option.status !== "closed";
	}

	askWho() {
		put(this.node, h("section.line.card", heading(t("line_title")), h("p", t("line_who")),
			button(".button", () => session.needed(), t("session_begin"))));
	}

	async leave() {
		if (!(await confirm(t("line_leave"), t("line_leave_sure"), t("line_leave"), t("line_stay")))) return;
		this.close();
		await leaveLine(this.concert).catch(() => {});
		this.app.go(`#/concerts/${this.concert.id}`);
	}

	async enter() {
		await super.enter();
		if (this.isClosed) return;
		const heard = (target, name, told) => {
			target.addEventListener(name, told);
			this.ending.push(() => target.removeEventListener(name, told));
		};
		heard(window, "pagehide", () => this.remember());
		heard(window, "popstate", () => this.open());
		this.ending.push(heed(() => this.rehold().catch(() => {})), () => this.remember());
		this.open();
	}

	remember() {
		const { map } = this;
		if (this.isKnown && map?.painted) keep(this.id, { centre: map.isFitted ? null : map.centre });
	}

	// The map is all there is while the history says so: the way back closes it.
	open() {
		this.map?.open(this.map.scrolling.matches && Boolean(history.state?.map));
	}

	opened(isOpen) {
		super.opened(isOpen);
		const isTold = Boolean(history.state?.map);
		if (isOpen && !isTold) history.pushState({ map: true }, "");
		if (!isOpen && isTold) history.back();
	}

	async readHolds() {
		const { items } = session.token ? await get("/v1/reservations?status=held&limit=100") : { items: [] };
		this.holds = items.filter((reservation) => reservation.option_id === this.id);
	}

	// What one holds may change in another tab.
	async rehold() {
		await this.readHolds();
		if (!this.isClosed) this.showHolds();
	}

	showHolds() {
		const { map, plan } = this;
		put(this.holding, this.holds.map((hold) => h("a.notice.good", { href: `#/reservations/${hold.id}` },
			h("p.strong", t("holding", { n: placesOf(hold) })),
			h("p", t("holding_until", { time: time(hold.expires_at) })))));
		if (!map) return;
		map.mine = new Set(this.holds.flatMap(({ seats }) => seats).map(({ id }) => plan.index.get(id)).filter((i) => i !== undefined));
		map.redraw("above");
		const others = [...this.chosen].filter((i) => !map.mine.has(i));
		if (others.length < this.chosen.size) this.choose(others);
	}

	// What was chosen before, as soon as it is known which of it is still free.
	known() {
		const { map, plan } = this;
		const { seats = [], areas = [], centre } = kept(this.id);
		const before = seats.map((guid) => plan.index.get(guid)).filter((i) => i !== undefined && !map.mine.has(i)).slice(0, this.most);
		this.choose(before, areas.filter(([name]) => name in this.areas));
		this.lose(before);
		if (centre) map?.recentre(centre);
	}

	changed() {
		if (this.isKnown) keep(this.id, { seats: this.selection.seats, areas: [...this.counts] });
	}

	get back() {
		return `#/concerts/${this.concert.id}`;
	}

	get wished() {
		return kept(this.id).wish;
	}

	header() {
		const { concert, option } = this;
		this.status = h("span", statusOf(option));
		return h("header.event", h("a.back", { href: this.back, "aria-label": t("back") }, icon("back")),
			h("div", heading(concert.title, date(option.starts_at, concert.time_zone)), h("p.muted", [begins(option, concert), concert.venue].filter(Boolean).join(" · "))), this.status);
	}

	tick() {
		super.tick();
		const ends = passEnds(this.concert);
		this.pass.hidden = !ends;
		if (ends) put(this.pass, icon("clock"), t("line_inside", { time: countdown(Date.parse(ends) - now()) }));
	}

	async refresh() {
		const { barred: before } = this;
		await super.refresh();
		if (this.isClosed) return;
		if (session.token && this.holds.length > 0) await this.rehold();
		if (this.hasLine && (!passFor(this.concert) || (await isSentBack(this.concert)))) {
			toast(t("problem_queue_token_required"), "bad");
			return this.app.reload();
		}
		put(this.status, statusOf(this.option));
		const { barred } = this;
		if (barred === before) return;
		if (barred) return this.tell(barred);
		put(this.notice);
		toast(t("sale_open"), "good");
	}

	async order(wish) {
		const isBest = Boolean(wish.best_available);
		// Seats are kept as they are chosen.
		if (!session.token) {
			if (isBest) keep(this.id, { wish: wish.best_available });
			return session.needed();
		}
		const reservation = await post(`${this.path}/reservations`, wish, undefined, passFor(this.concert));
		keep(this.id, { wish: null });
		if (!isBest) this.choose([]);
		this.app.go(`#/reservations/${reservation.id}`);
	}

	refused(problem) {
		if (!problem.words) throw problem;
		if (problem.code === "seats_unavailable") this.taken(problem.body.conflicts);
		else if (problem.code.startsWith("queue_token")) {
			toast(problem.words, "bad");
			this.app.reload();
		} else this.tell(problem.words);
	}

	// To another tab of one's own, or to somebody else.
	async lose(seats) {
		if (this.lostOf(seats).length === 0) return;
		if (session.token) await this.rehold().catch(() => {});
		if (!this.isClosed) super.lose(seats);
	}
}

export function fillBar(counts) {
	const all = counts.available + counts.held + counts.sold;
	const share = all === 0 ? 0 : counts.available / all;
	const bar = h("div.fill", { "aria-hidden": "true" }, h("div"));
	bar.firstChild.style.width = `${Math.round(100 * share)}%`;
	return h("div.availability", bar, h("span.muted", t("left", { n: counts.available })));
}

export const priceRange = ({ prices, currency }) => {
	const all = Object.values(prices);
	const [least, most] = [Math.min(...all), Math.max(...all)];
	if (least === most) return money(least, currency);
	return t("range", { least: currency ? money(least, currency) : number(least), most: money(most, currency) });
};
