// One performance: its map, what one has chosen, and other ways to the same seats.

import { api, get, jittered, newKey, now, post, session } from "./api.js";
import { heed, keep, kept } from "./choice.js";
import { begins } from "./dates.js";
import { View, button, confirm, every, h, heading, icon, labelled, put, statusOf, toast } from "./dom.js";
import { countdown, date, momentThere, number, money, t, time } from "./i18n.js";
import { Legend, sign } from "./legend.js";
import { followSeats } from "./live.js";
import { SeatMap } from "./map.js";
import { describe, namesOf } from "./names.js";
import { FREE, Plan } from "./plan.js";
import { isSentBack, leaveLine, passEnds, passFor, wait } from "./queue.js";
import { Rows } from "./rows.js";

const LOOK_MS = 15_000;

export const places = ({ seats, areas }) => seats.length + areas.reduce((sum, area) => sum + area.count, 0);

export class SaleView extends View {
	holds = [];

	constructor(app, option) {
		super(app, "main.sale");
		this.id = option;
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

	async read() {
		this.option = await get(`/v1/options/${this.id}`);
		this.concert = await get(`/v1/concerts/${this.option.concert_id}`);
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
		const [plan] = await Promise.all([get(`/v1/options/${this.id}/plan`), this.readHolds()]);
		if (this.isClosed) return;
		this.plan = new Plan(plan);
		this.plan.addAreas(this.option.areas);
		this.areas = Object.fromEntries(this.option.areas.map((area) => [area.name, { available: area.capacity }]));
		this.build();
		this.ending.push(
			followSeats(api, this.id, {
				onAll: (all) => {
					this.update(this.plan.setAll(all.seats), all.areas);
					this.restore();
				},
				onSome: (some) => this.update(this.plan.setSome(some.seats), some.areas),
			}),
			every(1000, () => this.tick()),
			// Offline, what one sees stays as it is.
			every(jittered(LOOK_MS), () => document.hidden || this.refresh().catch(() => {})),
			heed(() => this.rehold().catch(() => {})),
			() => this.remember(),
			() => this.map?.close());
		const remember = () => this.remember();
		addEventListener("pagehide", remember);
		this.ending.push(() => removeEventListener("pagehide", remember));
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
			h("p.strong", t("holding", { n: places(hold) })),
			h("p", t("holding_until", { time: time(hold.expires_at) })))));
		if (!map) return;
		map.mine = new Set(this.holds.flatMap(({ seats }) => seats).map(({ id }) => plan.index.get(id)).filter((i) => i !== undefined));
		for (const seat of map.mine) map.chosen.delete(seat);
		map.redraw("above");
		this.showChosen();
	}

	// What was chosen before, as soon as it is known which of it is still free.
	restore() {
		if (this.isRestored) return;
		this.isRestored = true;
		const { map, plan } = this;
		if (!map) return;
		const { seats = [], centre } = kept(this.id);
		const before = seats.map((guid) => plan.index.get(guid)).filter((i) => i !== undefined && !map.mine.has(i)).slice(0, this.most);
		map.chosen = new Set(before);
		const gone = before.filter((i) => plan.status[i] !== FREE);
		if (gone.length > 0) this.gone(gone, before);
		if (centre) map.recentre(centre);
		map.redraw("above");
		this.showChosen();
	}

	remember() {
		if (this.isRestored && this.map?.painted) keep(this.id, { centre: this.map.isFitted ? null : this.map.centre });
	}

	get back() {
		return `#/concerts/${this.concert.id}`;
	}

	build() {
		const { concert, plan, option } = this;
		if (plan.size > 0) {
			this.map = new SeatMap(plan, {
				toggle: (seat) => this.toggle(seat),
				describe: (seat) => this.describe(seat),
				touched: (what) => this.showCard(what),
				opened: (isOpen) => this.node.classList.toggle("opened", isOpen),
			});
			const { painter } = this.map;
			plan.categories.forEach(({ name }, i) => this.option.accessible.includes(name) && painter.accessible.add(i));
			painter.words = {
				zone: (zone) => this.aboutZone(zone),
				area: (area) => this.aboutArea(area),
				share: ({ name, capacity }) => this.areas[name].available / capacity,
			};
			const money = (amount) => this.money(amount);
			this.legend = new Legend(this.map, this.option.accessible, money);
			this.rows = new Rows(this.map, { toggle: (seat) => this.toggle(seat), money });
		}
		this.notice = h("div", { role: "alert" });
		this.holding = h("div");
		this.pass = h("p.pass.muted");
		this.card = h("div");
		this.cart = h("div#cart.cart");
		this.status = h("span");
		const lead = this.lead();
		const panel = h("aside.panel", { "aria-label": t("panel") }, this.areaForm(), this.legend?.node, plan.size > 0 && h("section.others", this.rows.node));
		put(this.node,
			h("header.event", h("a.back", { href: this.back, "aria-label": t("back") }, icon("back")),
				h("div", heading(concert.title, date(option.starts_at, concert.time_zone)), h("p.muted", [begins(option, concert), concert.venue].filter(Boolean).join(" · "))), this.status),
			h(plan.size > 0 ? "div.hall" : "div.hall.flat",
				this.map?.node, panel,
				// Everything that asks for an answer, in one place that nothing lies over.
				h("section.sheet", { "aria-label": t("sheet") }, h("div.more", this.notice, this.holding, this.pass, this.card), this.cart)));
		const narrow = matchMedia("(max-width: 860px)");
		const place = () => lead && (narrow.matches ? panel.parentNode : panel).prepend(lead);
		place();
		narrow.addEventListener("change", place);
		this.ending.push(() => narrow.removeEventListener("change", place));
		this.showHolds();
		this.showSale();
	}

	// What comes first: above the map, where one scrolls.
	lead() {
		return this.plan.size > 0 ? this.bestForm() : null;
	}

	aboutZone(zone) {
		const from = this.plan.priceFrom(zone);
		return from === Infinity ? [t("status_sold_out")] : [t("left", { n: zone.free }), t("from", { amount: this.money(from) })];
	}

	aboutArea({ name, category }) {
		const { available } = this.areas[name];
		return [available === 0 ? t("status_sold_out") : t("left", { n: available }), this.money(this.option.prices[category])];
	}

	get isOpen() {
		return ["on_sale", "sold_out"].includes(this.option.status);
	}

	get whyNot() {
		return this.option.status === "scheduled" ? t("sale_opens", { time: momentThere(this.option.sale_opens_at, this.concert.time_zone) }) : t("sale_closed");
	}

	showSale() {
		put(this.status, statusOf(this.option));
		this.showAreas();
		this.showCart();
	}

	tick() {
		const ends = passEnds(this.concert);
		this.pass.hidden = !ends;
		if (ends) put(this.pass, icon("clock"), t("line_inside", { time: countdown(Date.parse(ends) - now()) }));
		if (this.option.status === "scheduled" && Date.parse(this.option.sale_opens_at) <= now()) this.refresh().catch(() => {});
	}

	async refresh() {
		const [wasOpen, why] = [this.isOpen, this.whyNot];
		await this.read();
		if (this.isClosed) return;
		if (session.token && this.holds.length > 0) await this.rehold();
		if (this.hasLine && (!passFor(this.concert) || (await isSentBack(this.concert)))) {
			toast(t("problem_queue_token_required"), "bad");
			return this.app.reload();
		}
		put(this.status, statusOf(this.option));
		// What somebody is about to click stays where it is.
		if (this.isOpen === wasOpen && this.whyNot === why) return;
		this.showSale();
		if (!this.isOpen) return this.tell(this.whyNot);
		put(this.notice);
		toast(t("sale_open"), "good");
	}

	names(seats) {
		return namesOf(this.plan, seats);
	}

	describe(seat) {
		return describe(this.map, seat, { accessible: this.option.accessible, money: (amount) => this.money(amount) });
	}

	// Of what was touched: it stays until something else is, or it is closed.
	showCard(what) {
		const { map, plan } = this;
		this.touched = what;
		map.marked = what?.seat ?? -1;
		map.redraw("above");
		if (!what) return put(this.card);
		const { seat, area, zone } = what;
		const { tones } = map.painter;
		const isAccessible = seat !== undefined && map.painter.accessible.has(plan.categoryOf[seat]);
		const signs = seat !== undefined && plan.isForSale(seat) && [sign(tones, "free", tones.category(plan.categoryOf[seat])), isAccessible && sign(tones, "accessible")];
		const [name, ...more] = seat !== undefined ? this.describe(seat) : zone ? [zone.name || t("zone_unnamed"), ...this.aboutZone(zone)] : [area.name, ...this.aboutArea(area)];
		const close = () => {
			this.showCard(null);
			map.above.focus({ preventScroll: true });
		};
		put(this.card, h("div#touched.touched", signs && h("div.is", signs),
			h("div.grow", h("p.strong", name), h("p", more.join(" · ")), area && this.holdArea(area)),
			h("button.ghost.round", { "aria-label": t("card_close"), onclick: close }, icon("close"))));
	}

	holdArea({ name }) {
		const count = this.counter("touched-count", this.most, 1);
		const onsubmit = () => this.hold({ areas: [{ name, count: count.read() }] });
		return h("form.actions.start", { onsubmit }, h("label.unseen", { for: "touched-count" }, t("best_count")), count.node,
			h("button.button", { disabled: this.areas[name].available === 0 || !this.isOpen }, t("hold_places")));
	}

	get most() {
		return Math.min(this.option.max_seats_per_reservation, this.option.max_seats_per_user);
	}

	get chosen() {
		return this.map ? [...this.map.chosen] : [];
	}

	toggle(seat) {
		const { map, plan } = this;
		// One that is given up is free for others all the time.
		if (!map.chosen.delete(seat)) {
			if (map.mine.has(seat)) return toast(t("seat_yours"));
			if (plan.status[seat] !== FREE) return toast(t(`seat_${plan.stateAt(seat)}`));
			if (map.chosen.size >= this.most) return toast(t("limit", { n: this.most }));
			map.chosen.add(seat);
			put(this.notice);
		}
		map.redraw("above");
		if (map.hover === seat) map.point(seat);
		this.showChosen();
	}

	choose(seats) {
		this.map.chosen = new Set(seats);
		put(this.notice);
		this.map.showSeats(seats);
		this.showChosen();
	}

	showChosen() {
		if (this.isRestored && this.map) keep(this.id, { seats: this.chosen.map((i) => this.plan.guids[i]) });
		if (this.touched?.seat !== undefined) this.showCard(this.touched);
		this.showCart();
		this.rows?.show();
	}

	priceOf(seats) {
		return this.money(seats.reduce((sum, i) => sum + this.plan.categoryAt(i).price, 0));
	}

	money(amount) {
		return money(amount, this.option.currency);
	}

	showCart() {
		const { plan, chosen } = this;
		this.node.classList.toggle("choosing", chosen.length > 0);
		if (!this.isOpen) return put(this.cart, h("p.strong", this.whyNot));
		if (chosen.length === 0) return put(this.cart, plan.size > 0 && h("p.muted", t("choose", { n: this.most })));
		const chip = (i) => h("li",
			h("span", h("strong", [plan.rowAt(i).name, plan.numbers[i]].filter(Boolean).join("-") || plan.guids[i]), " ", plan.zoneAt(i).name),
			h("button.ghost.round", { "aria-label": t("seat_drop", { seat: this.names([i]) }), onclick: () => this.toggle(i) }, icon("close")));
		put(this.cart,
			h("ul.chips", chosen.map(chip)),
			h("div.sum", h("span", t("seats", { n: chosen.length })), h("strong", this.priceOf(chosen))),
			h("button#hold.button.wide", { disabled: this.isBusy, onclick: () => this.hold({ seats: chosen.map((i) => plan.guids[i]) }, chosen) },
				t("hold", { minutes: this.holdTime })));
	}

	get holdTime() {
		const seconds = this.option.hold_seconds;
		return seconds < 60 ? t("duration_seconds", { n: seconds }) : t("duration_minutes", { n: Math.round(seconds / 60) });
	}

	async hold(wish, wanted = []) {
		// Seats are kept as they are chosen.
		if (!session.token) {
			if (!wish.seats) keep(this.id, { wish });
			return session.needed();
		}
		if (this.isBusy) return;
		this.isBusy = true;
		this.showCart();
		try {
			const reservation = await post(`/v1/options/${this.id}/reservations`, wish, newKey(), passFor(this.concert));
			for (const seat of wanted) this.map.chosen.delete(seat);
			keep(this.id, { ...(wanted.length > 0 && { seats: [] }), wish: null });
			this.app.go(`#/reservations/${reservation.id}`);
		} catch (problem) {
			this.refused(problem, wanted);
		} finally {
			this.isBusy = false;
			if (!this.isClosed) this.showCart();
		}
	}

	refused(problem, wanted) {
		if (problem.code === "seats_unavailable") {
			this.plan.setSome(Object.fromEntries(problem.body.conflicts.filter((guid) => this.isFree(guid)).map((guid) => [guid, "held"])));
			this.gone(problem.body.conflicts.map((guid) => this.plan.index.get(guid)), wanted);
		} else if (problem.code?.startsWith("queue_token")) {
			toast(problem.words, "bad");
			this.app.reload();
		} else {
			this.tell(problem.words);
			if (problem.code === "sale_not_open") this.refresh().catch(() => {});
		}
	}

	isFree(guid) {
		return this.plan.status[this.plan.index.get(guid)] === FREE;
	}

	tell(text, ...more) {
		const close = h("button.ghost.round", { "aria-label": t("card_close"), onclick: () => put(this.notice) }, icon("close"));
		put(this.notice, h("div.notice.bad", h("div.told", h("p.strong.grow", text), close), ...more));
		this.notice.scrollIntoView({ block: "nearest" });
	}

	gone(seats, wanted) {
		const { plan, map } = this;
		for (const seat of seats) map.chosen.delete(seat);
		map.change(seats);
		const nearest = plan.nearestTo(wanted, new Set(seats));
		this.tell(t("gone", { n: seats.length, seats: this.names(seats) }), ...(nearest.length === 0 ? [h("p", t("gone_none"))] : [
			h("p", t("gone_nearest", { seats: this.names(nearest), amount: this.priceOf(nearest) })),
			button("#nearest.button.small", () => this.choose(nearest), t("gone_take", { n: nearest.length })),
		]));
		this.showChosen();
	}

	update(changed, areas) {
		Object.assign(this.areas, areas);
		this.showAreas();
		if (!this.map || changed.length === 0) return;
		this.map.change(changed);
		const { chosen, mine } = this.map;
		const lost = changed.filter((i) => chosen.has(i) && !mine.has(i) && this.plan.status[i] !== FREE);
		// A hold of one's own is told of by its answer.
		if (lost.length > 0 && !this.isBusy) this.lose(lost);
		this.fresh ??= setTimeout(() => {
			this.fresh = null;
			this.legend.count();
			if (this.touched && !this.touched.area) this.showCard(this.touched);
			this.rows?.show();
		}, 400);
	}

	// To another tab of one's own, or to somebody else.
	async lose(lost) {
		const wanted = this.chosen;
		if (session.token) await this.rehold().catch(() => {});
		if (this.isClosed) return;
		const { mine, chosen } = this.map;
		const gone = lost.filter((i) => chosen.has(i) && !mine.has(i) && this.plan.status[i] !== FREE);
		if (gone.length > 0) this.gone(gone, wanted.filter((i) => !mine.has(i)));
	}

	bestForm() {
		const { plan } = this;
		const before = kept(this.id).wish?.best_available;
		const count = this.counter("best-count", this.most, Math.min(before?.count ?? 2, this.most));
		const category = h("select#best-category", { name: "category" }, h("option", { value: "" }, t("best_any")),
			plan.categories.map(({ name, price }) => h("option", { value: name }, `${name} · ${this.money(price)}`)));
		const zones = [...new Set(plan.zones.map((zone) => zone.name))].filter(Boolean);
		const zone = h("select#best-zone", { name: "zone" }, h("option", { value: "" }, t("best_anywhere")), zones.map((name) => h("option", { value: name }, name)));
		const apart = h("input#best-apart", { type: "checkbox", checked: before?.adjacent === false });
		// Places for wheelchairs go to those who name them, with somebody beside them.
		const companions = this.counter("best-companions", this.most - 1, 0, 0);
		const beside = h("div", { hidden: true }, h("label", { for: "best-companions" }, t("best_companions")), companions.node);
		category.addEventListener("change", () => {
			beside.hidden = this.most < 2 || !this.option.accessible.includes(category.value);
		});
		const onsubmit = () => {
			const wish = { count: count.read(), adjacent: !apart.checked };
			for (const field of [category, zone]) if (field.value) wish[field.name] = field.value;
			if (!beside.hidden && companions.read() > 0) Object.assign(wish, { companions: companions.read(), adjacent: true });
			this.hold({ best_available: wish });
		};
		for (const field of [category, zone]) field.value = before?.[field.name] ?? "";
		category.dispatchEvent(new Event("change"));
		return h("details#best.way", { open: Boolean(before) }, h("summary", t("best_title")),
			h("form", { onsubmit },
				h("p.muted", t("best_text")),
				h("label", { for: "best-count" }, t("best_count")), count.node,
				labelled(t("best_category"), category), beside, labelled(t("best_zone"), zone),
				h("label.check", apart, t("best_apart")),
				h("button#best-hold.button.wide", t("hold", { minutes: this.holdTime }))));
	}

	counter(id, most, value, least = 1) {
		const read = (by = 0) => Math.min(most, Math.max(least, (Number(input.value) || least) + by));
		const input = h("input", { id, type: "number", min: least, max: most, value, required: true });
		const step = (name, label, by) => h("button.round", { "aria-label": label, onclick: () => (input.value = read(by)) }, icon(name));
		return { read, node: h("span.counter", step("minus", t("less"), -1), input, step("plus", t("more"), 1)) };
	}

	areaForm() {
		const { option } = this;
		if (option.areas.length === 0) return null;
		this.areaRows = option.areas.map((area) => {
			const before = kept(this.id).wish?.areas?.find(({ name }) => name === area.name);
			const count = this.counter(`area-${area.name}`, this.most, Math.min(before?.count ?? 1, this.most));
			const left = h("span.muted");
			const button = h("button.button", t("hold_places"));
			const onsubmit = () => this.hold({ areas: [{ name: area.name, count: count.read() }] });
			const node = h("form.area", { "data-area": area.name, onsubmit },
				h("div.grow", h("p.strong", area.name),
					h("p", h("span.price", this.money(option.prices[area.category])), " · ", left)),
				h("label.unseen", { for: `area-${area.name}` }, t("best_count")), count.node, button);
			return { area, left, button, node };
		});
		return h("section.areas", h("h2", t("areas")), this.areaRows.map((row) => row.node));
	}

	showAreas() {
		for (const { area, left, button } of this.areaRows ?? []) {
			const { available } = this.areas[area.name];
			left.textContent = available === 0 ? t("status_sold_out") : t("left", { n: available });
			button.disabled = available === 0 || !this.isOpen;
		}
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
