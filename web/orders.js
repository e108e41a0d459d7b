// The orders of a performance: who sits where, what has happened to them, and what can be done for them.

import { ask, get, newKey, patch, post, remove } from "./api.js";
import { View, button, h, icon, labelled, open, put, toast } from "./dom.js";
import { has, moment, money, number, t } from "./i18n.js";
import { choosePlaces } from "./parts.js";
import { Revenue } from "./revenue.js";
import { may } from "./roles.js";
import { placesOf, seatName } from "./names.js";

const PAGE = 50;
// A page may be empty and others come after it.
const EMPTY_MAX = 20;
const STATUSES = ["held", "paying", "confirmed", "released", "expired", "refunded"];

// Why something was refused, to somebody who knows the API's names.
function told(problem) {
	if (!problem.words) throw problem;
	const { errors, seats } = problem.body;
	if (problem.code === "unknown_seats") return t("orders_no_seat", { seats: seats.join(", ") });
	return errors?.map(({ field, message }) => `${field}: ${message}`).join("; ") ?? problem.words;
}

const say = (problem) => toast(told(problem), "bad");

// A form in a dialog: says what is refused, and closes once it is done.
function form(title, yes, fields, act) {
	const problem = h("div", { role: "alert" });
	const send = h("button.button", yes);
	async function onsubmit() {
		send.disabled = true;
		try {
			await act();
			dialog.close();
			toast(t("ops_applied"), "good");
		} catch (refusal) {
			put(problem, h("p.notice.bad", told(refusal)));
			send.disabled = false;
		}
	}
	const dialog = open(h("form", { onsubmit }, h("h2", title), fields, problem,
		h("div.actions", button(".button.quiet", () => dialog.close(), t("cancel")), send)));
	return send;
}

const text = (id, properties = {}) => h(`input#${id}`, { autocomplete: "off", autocapitalize: "off", spellcheck: "false", ...properties });

// Seats or places for somebody who stands at the counter.
export function holdFor(option, seats, done) {
	const seatsField = text("hold-seats", { value: seats.join(", "), placeholder: t("orders_seats_hint") });
	const area = h("select#hold-area", h("option", { value: "" }, "–"), option.areas.map(({ name }) => h("option", { value: name }, name)));
	const count = text("hold-count", { type: "number", min: 1, max: 1000, value: 1 });
	const user = text("hold-user", { required: true, maxlength: 255 });
	const reference = text("hold-reference", { maxlength: 200 });
	const flag = (name) => [name, h(`input#hold-${name.replaceAll("_", "-")}`, { type: "checkbox" })];
	const flags = ["complimentary", "beyond_limits", "from_blocked"].map(flag);
	let [wish, key] = [null, null];
	form(t("orders_hold"), t("orders_hold"), [
		labelled(t("orders_seats"), seatsField),
		...(option.areas.length > 0 ? [labelled(t("orders_area"), area), labelled(t("best_count"), count)] : []),
		labelled(t("orders_user"), user), labelled(t("reference"), reference),
		h("div.flags", flags.map(([name, box]) => h("label.check", box, t(`orders_${name}`)))),
	], async () => {
		const named = seatsField.value.split(/[\s,]+/).filter(Boolean);
		const places = area.value ? { areas: [{ name: area.value, count: Number(count.value) }] } : {};
		const body = { ...(named.length > 0 || !area.value ? { seats: named } : {}), ...places, user_id: user.value.trim() };
		if (reference.value) body.reference = reference.value;
		for (const [name, box] of flags) if (box.checked) body[name] = true;
		// The same wish, however often the button is pressed.
		if (JSON.stringify(body) !== wish) [wish, key] = [JSON.stringify(body), newKey()];
		done(await post(`/v1/options/${option.id}/reservations`, body, key));
	});
	user.focus();
}

export class OrdersDesk extends View {
	turn = 0;

	constructor(option) {
		super(null, "div.orders");
		this.option = option;
		this.path = `/v1/options/${option.id}/reservations`;
		this.buildSearch();
		this.list = h("ul.rows", { "aria-label": t("ops_tab_orders") });
		this.more = button("#more-orders.button.small.quiet", () => this.load().catch(say), t("more_show"));
		this.detail = h("section#order.card.detail", { hidden: true });
		this.revenue = new Revenue(option);
		this.progress = h("div");
		const isOff = option.status === "cancelled";
		this.end = may("call_off") && !isOff && h("section.card.off", h("header", h("h2", t("off")), button("#call-off.button.small.danger", () => this.callOff().catch(say), t("off"))), h("p.muted", t("off_text")));
		put(this.node, this.progress, this.search, h("div.desk", h("div", this.list, this.more), this.detail), this.revenue.node, this.end);
		this.ending.push(() => this.revenue.close(), () => this.stopOff?.());
		this.seek();
		if (isOff && may("call_off")) this.followOff().catch(say);
	}

	buildSearch() {
		const field = (name, label) => {
			this[name] = text(`find-${name.replace("_id", "")}`, { type: "search", maxlength: 255 });
			return h("div", labelled(label, this[name]));
		};
		this.status = h("select#find-status", h("option", { value: "" }, t("orders_any")), STATUSES.map((status) => h("option", { value: status }, t(`reservation_${status}`))));
		this.search = h("form.card.find", { onsubmit: () => this.seek() },
			field("seat", t("orders_seat")), field("user_id", t("orders_user")), field("reference", t("reference")),
			h("div", labelled(t("orders_status"), this.status)),
			h("div.actions",
				may("hold") && button("#hold-for.button.small.quiet", () => holdFor(this.option, [], (order) => this.made(order)), t("orders_hold")),
				button("#csv.button.small.quiet", () => this.download().catch(say), t("orders_csv")),
				h("button#find.button.small", t("orders_find"))));
	}

	get query() {
		const fields = [["seat", this.seat], ["user_id", this.user_id], ["reference", this.reference], ["status", this.status]];
		return new URLSearchParams(fields.map(([name, { value }]) => [name, value.trim()]).filter(([, value]) => value)).toString();
	}

	// From the map: who sits there.
	who(seat) {
		this.search.reset();
		this.seat.value = seat;
		this.seek();
	}

	made(order) {
		this.seek();
		this.open(order.id).catch(say);
	}

	seek() {
		this.turn += 1;
		this.cursor = "";
		put(this.list);
		this.more.hidden = true;
		this.load().catch((problem) => put(this.list, h("li.muted", { role: "alert" }, told(problem))));
	}

	async load() {
		const { turn } = this;
		for (let k = 0; k < EMPTY_MAX; k += 1) {
			const page = await get(`${this.path}?${this.query}&limit=${PAGE}${this.cursor}`);
			if (turn !== this.turn || this.isClosed) return;
			this.list.append(...page.items.map((order) => this.row(order)));
			this.cursor = page.next_cursor ? `&cursor=${page.next_cursor}` : "";
			if (page.items.length > 0 || !this.cursor) break;
		}
		this.more.hidden = !this.cursor;
		if (this.list.children.length === 0 && !this.cursor) put(this.list, h("li.muted", t("orders_none")));
	}

	row(order) {
		const { id, user_id: user, status, seats, areas, reference, amount, created_at: at } = order;
		const names = seats.slice(0, 4).map((seat) => seat.id).concat(seats.length > 4 ? `+${number(seats.length - 4)}` : [], areas.map((area) => `${area.name} × ${number(area.count)}`));
		return h("li", h("button.row", { "data-order": id, onclick: () => this.open(id).catch(say) },
			h("span.grow", h("strong", user), h("span.muted", names.join(", ")), reference && h("span.muted", reference)),
			h("span.right", h(`span.pill.${status}`, t(`reservation_${status}`)), h("span.price", this.money(amount)), h("span.muted", moment(at)))));
	}

	money(amount) {
		return money(amount, this.option.currency);
	}

	async open(id) {
		const order = await get(`/v1/reservations/${id}`);
		const payment = order.payment_id ? await get(`/v1/payments/${order.payment_id}`) : null;
		if (this.isClosed) return;
		this.show(order, payment);
	}

	show(order, payment) {
		const { id, user_id: user, status, seats, areas, reference, data, created_at: created, expires_at: expires, steps } = order;
		const pair = (name, ...value) => [h("dt", name), h("dd", value)];
		const line = (name, category, price, seat = null) => h("li", h("span.grow", name), h("span.muted", category), h("span.price", price),
			seat && may("look_back") && button(".ghost.look-back", () => this.lookBack(seat).catch(say), t("orders_history")));
		const isOthers = payment && payment.user_id !== user;
		this.story = h("div");
		this.detail.hidden = false;
		put(this.detail,
			h("header", h("h2", user), h(`span.pill.${status}`, t(`reservation_${status}`)), h("div.grow"),
				h("button.ghost.round", { "aria-label": t("orders_close"), onclick: () => (this.detail.hidden = true) }, icon("close"))),
			isOthers && h("p#handed-on.notice", t("orders_handed_on", { user: payment.user_id })),
			h("ul.lines", seats.map((seat) => line(`${seatName(seat)} (${seat.id})`, seat.category, this.money(seat.price), seat.id)),
				areas.map((area) => line(`${area.name} × ${number(area.count)}`, area.category, this.money(area.price * area.count)))),
			h("dl",
				pair(t("orders_amount"), this.money(order.amount)), pair(t("ticket_number"), h("code", id)),
				reference && pair(t("reference"), reference), data && pair(t("orders_data"), h("code", JSON.stringify(data))),
				pair(t("orders_made"), moment(created)), status === "held" && pair(t("orders_until"), moment(expires)),
				payment && pair(t("orders_payment"), `${payment.method ?? t("method_points")} · ${t(`orders_paid_${payment.status}`)} · ${this.money(payment.amount)}`,
					payment.refunded > 0 && ` · ${t("orders_back", { amount: this.money(payment.refunded) })}`),
				payment?.paid_at && pair(t("orders_paid"), moment(payment.paid_at))),
			h("div.actions", this.actions(order)),
			steps?.length > 0 && h("details", h("summary", t("orders_steps")), h("ol.story", steps.map(({ step, at }) => h("li", h("time.muted", moment(at)), h("span", what(step)))))),
			this.story);
		this.detail.scrollIntoView({ block: "nearest" });
	}

	actions(order) {
		const { status } = order;
		const act = (right, wanted, name, onclick) => may(right) && status === wanted && button(`#${name}.button.small.quiet`, onclick, t(`orders_${name.replace("-", "_")}`));
		return [
			act("release", "held", "release", () => this.giveUp(order)), act("extend", "held", "extend", () => this.extend(order)),
			act("give_back", "confirmed", "give-back", () => this.giveUp(order)), act("hand_on", "confirmed", "hand-over", () => this.handOver(order)),
		];
	}

	async changed(id) {
		this.seek();
		await this.open(id);
	}

	// A hold or a paid order, whole or in part.
	giveUp(order) {
		const isHeld = order.status === "held";
		const title = t(isHeld ? "orders_release" : "orders_give_back");
		const sum = h("p.strong", { "aria-live": "polite" });
		let key = newKey();
		const part = choosePlaces(order, { all: true, changed: () => show() });
		const send = form(title, title, [part.node, sum], async () => {
			const isAll = part.read().n === placesOf(order);
			if (isHeld && isAll) await remove(`/v1/reservations/${order.id}`);
			else await post(isHeld ? `/v1/reservations/${order.id}/releases` : `/v1/payments/${order.payment_id}/refunds`, isAll ? {} : part.body(), key);
			await this.changed(order.id);
		});
		const show = () => {
			const { n, amount } = part.read();
			key = newKey();
			send.disabled = n === 0;
			sum.textContent = `${t("seats", { n })} · ${this.money(amount)}`;
		};
		show();
	}

	handOver(order) {
		const to = text("to", { required: true, maxlength: 255 });
		let [wish, key] = [null, null];
		form(t("orders_hand_over"), t("orders_hand_over"), [h("p", t("orders_hand_over_text")), labelled(t("orders_user"), to)], async () => {
			if (to.value !== wish) [wish, key] = [to.value, newKey()];
			await post(`/v1/reservations/${order.id}/transfers`, { to: to.value.trim(), accept: true }, key);
			await this.changed(order.id);
		});
	}

	extend(order) {
		const at = new Date(order.expires_at);
		const until = h("input#until", { type: "datetime-local", required: true, value: new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16) });
		form(t("orders_extend"), t("ops_apply"), labelled(t("orders_until"), until), async () => {
			await patch(`/v1/reservations/${order.id}`, { expires_at: new Date(until.value).toISOString() });
			await this.changed(order.id);
		});
	}

	async lookBack(seat) {
		const items = [];
		let cursor = "";
		do {
			const page = await get(`/v1/options/${this.option.id}/seats/${encodeURIComponent(seat)}/history?limit=500${cursor}`);
			items.push(...page.items);
			cursor = page.next_cursor ? `&cursor=${page.next_cursor}` : "";
		} while (cursor && items.length < 2000);
		const item = ({ at, what: name, who, why, reservation_id: id }) => h("li", h("time.muted", moment(at)),
			h("span", what(name), who && ` · ${who}`, why && ` · ${has(`why_${why}`) ? t(`why_${why}`) : why}`, id && " · ", id && button(".link", () => this.open(id).catch(say), id)));
		put(this.story, h("h3", t("orders_history_of", { seat })), h("ol#history.story", items.map(item)), cursor && h("p.muted", t("ops_owed_more")));
		this.story.scrollIntoView({ block: "nearest" });
	}

	// What is searched for, as a file.
	async download() {
		const { value } = await ask("GET", `${this.path}?${this.query}`, { headers: { Accept: "text/csv" } });
		const url = URL.createObjectURL(new Blob([value], { type: "text/csv" }));
		h("a", { href: url, download: `orders-${this.option.id}.csv` }).click();
		setTimeout(() => URL.revokeObjectURL(url), 60_000);
	}

	async callOff() {
		const { callOff } = await import("./cancel.js");
		callOff(await get(`/v1/options/${this.option.id}`), () => this.followOff().catch(say));
	}

	async followOff() {
		const { followCancellation } = await import("./cancel.js");
		this.stopOff?.();
		this.stopOff = followCancellation(this.option, this.progress, () => this.seek());
		if (this.end) this.end.remove();
		this.progress.scrollIntoView({ block: "nearest" });
	}
}

const what = (name) => (has(`what_${name}`) ? t(`what_${name}`) : name);
