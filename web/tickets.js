// After choosing: paying, the ticket, and all that one has had.

import { get, newKey, now, post, remove, session } from "./api.js";
import { begins } from "./dates.js";
import { View, button, every, h, heading, icon, put, toast } from "./dom.js";
import { countdown, has, moment, momentThere, money, number, points, t, time } from "./i18n.js";
import { art, paged } from "./list.js";
import { placesOf, seatName } from "./names.js";
import { loadTexts } from "./texts.js";

const POINTS = "points";
const LOOK_MS = 3000;
// Of a payment by a provider of which more will be heard.
const UNSETTLED = ["pending", "authorized", "voiding", "refund_owed"];
const OFFERS = "boxoffice.offers";

// What few need is loaded when it is.
export async function changes() {
	await loadTexts("changes");
	return import("./changes.js");
}

// What one has offered to others: only this browser knows, by reservation.
const offers = () => JSON.parse(localStorage.getItem(OFFERS)) ?? {};
const keepOffers = (all) => localStorage.setItem(OFFERS, JSON.stringify(all));

export const offerOf = (id) => (offers()[id]?.by === session.user ? offers()[id] : undefined);

export function keep(id, offer) {
	const open = Object.entries(offers()).filter(([, { expires_at: ends }]) => Date.parse(ends) > now());
	keepOffers({ ...Object.fromEntries(open), [id]: { ...offer, by: session.user } });
}

export function forget(id) {
	const { [id]: _, ...others } = offers();
	keepOffers(others);
}

const nameOf = (method) => (has(`method_${method}`) ? t(`method_${method}`) : method);

function lines({ seats, areas }, currency) {
	const line = (name, { category }, price) => h("li", h("span", name), h("span.muted", category), h("span.price", money(price, currency)));
	return h("ul.lines", seats.map((seat) => line(seatName(seat), seat, seat.price)),
		areas.map((area) => line(`${area.name} × ${number(area.count)}`, area, area.price * area.count)));
}

const sum = (name, value) => [h("dt", name), h("dd", value)];
const called = ({ reference }) => reference && sum(t("reference"), reference);

const unlessMissing = (other) => (problem) => {
	if (problem.status !== 404) throw problem;
	return other;
};

export class ReservationView extends View {
	// The same wish, however often the button is pressed.
	payKey = newKey();
	wallet = null;
	payment = null;

	constructor(app, id) {
		super(app, "main.narrow");
		this.id = id;
		this.ending.push(() => this.untick?.(), () => this.unlook?.());
		this.guard(this.read());
	}

	async read() {
		if (!(await this.isTheirs())) return;
		this.option ??= await get(`/v1/options/${this.reservation.option_id}`);
		this.concert ??= await get(`/v1/concerts/${this.option.concert_id}`);
		this.methods = this.option.payment_methods ?? [POINTS];
		this.method ??= this.methods[0];
		if (this.methods.includes(POINTS)) this.wallet = await get("/v1/wallet");
		this.byProvider = this.methods.some((method) => method !== POINTS);
		if (this.byProvider) this.payment = await this.lastPayment();
		const { payment_id: paid, status } = this.reservation;
		// Null: who paid has handed it on.
		if (status === "confirmed") this.paid = await get(`/v1/payments/${paid}`).catch(unlessMissing(null));
		if (!this.isClosed) this.show();
	}

	// Whether it still is: what was offered may be accepted at any time.
	async isTheirs() {
		const offer = offerOf(this.id);
		this.reservation = await get(`/v1/reservations/${this.id}`).catch(offer ? unlessMissing(null) : null);
		if (this.reservation || this.isClosed) return !this.isClosed;
		this.untick?.();
		this.unlook?.();
		keep(this.id, { ...offer, expires_at: new Date(0) });
		put(this.node, h("section.card.end", heading(t("handed_on")), h("p#handed-on.lead", t("handed_on_text", { user: offer.to })), h("a.button.quiet", { href: "#/tickets" }, t("tickets_all"))));
		return false;
	}

	get isOffered() {
		return Date.parse(offerOf(this.id)?.expires_at) > now();
	}

	async change(name) {
		try {
			(await changes())[name](this);
		} catch {
			toast(t("problem_offline"), "bad");
		}
	}

	// The last one by a provider, whichever tab began it.
	async lastPayment() {
		const { items } = await get("/v1/payments?limit=500");
		const last = items.find((one) => one.reservation_id === this.id && one.method);
		return last ? get(`/v1/payments/${last.id}`) : null;
	}

	show() {
		this.untick?.();
		this.unlook?.();
		const { payment, wallet } = this;
		const { status } = this.reservation;
		if (status === "paying" && payment) this.showPaying();
		else if (status === "held" || status === "paying") this.showCheckout();
		else if (status === "confirmed") this.showTicket();
		else this.showEnd();
		if (wallet) this.app.showWallet(wallet.balance);
		const isOpen = (this.byProvider && ["held", "paying"].includes(status)) || (status === "confirmed" && this.isOffered);
		if (isOpen || UNSETTLED.includes(payment?.status)) this.unlook = every(LOOK_MS, () => this.look());
	}

	// Something may have happened elsewhere: at the provider, or in another tab.
	async look() {
		if (this.isLooking || this.isBusy) return;
		this.isLooking = true;
		const { payment, reservation } = this;
		const seen = await Promise.all([get(`/v1/reservations/${this.id}`), payment && get(`/v1/payments/${payment.id}`)])
			.catch(({ status }) => (status === 404 ? [{ status }] : null));
		this.isLooking = false;
		const isNews = seen && (seen[0].status !== reservation.status || seen[1]?.status !== payment?.status);
		if (isNews && !this.isBusy && !this.isClosed) await this.read().catch(() => {});
	}

	money(amount) {
		return money(amount, this.option.currency);
	}

	head() {
		return [h("p.eyebrow", begins(this.option, this.concert)), heading(this.concert.title, t(`reservation_${this.reservation.status}`))];
	}

	// What became of a payment by a provider that has not led to tickets, in words.
	outcome() {
		const { payment } = this;
		return payment && h(`p#outcome.notice${payment.status === "failed" ? ".bad" : ""}`,
			t(`payment_${payment.status}`, { amount: this.money(payment.amount), method: nameOf(payment.method), time: time(payment.expires_at) }));
	}

	remaining(text) {
		this.clock = h("strong#countdown.clock");
		this.clockBar = h("div.bar", { "aria-hidden": "true" }, h("div"));
		this.said = h("p.unseen", { "aria-live": "assertive" });
		return [h("div.remaining", h("span", icon("clock"), text), this.clock), this.clockBar];
	}

	chooseMethod() {
		if (this.methods.length < 2) return null;
		const choice = (method) => h("label.choice",
			h(`input#method-${method}`, { type: "radio", name: "method", checked: method === this.method, onchange: () => this.payBy(method) }), h("span", nameOf(method)));
		return h("fieldset.modes", h("legend", t("pay_by")), this.methods.map(choice));
	}

	payBy(method) {
		this.method = method;
		this.payKey = newKey();
		this.showCheckout();
		this.node.querySelector(`#method-${method}`).focus();
	}

	showCheckout() {
		this.untick?.();
		const { reservation, wallet } = this;
		const byPoints = this.method === POINTS;
		const enough = !byPoints || wallet.balance >= reservation.amount;
		this.problem = h("div", { role: "alert" });
		this.payButton = h("button#pay.button.wide.large", { disabled: !enough, onclick: () => this.pay() }, this.payText);
		this.dropButton = button("#release.button.quiet.wide", () => this.release(), t("release"));
		put(this.node,
			h("section.card.checkout",
				this.remaining(t("held_for")), this.head(), this.outcome(), lines(reservation, this.option.currency),
				h("dl.sums", called(reservation),
					h("dt", t("seats", { n: placesOf(reservation) })), h("dd.total", this.money(reservation.amount)),
					byPoints && sum([icon("wallet"), t("wallet_balance")], points(wallet.balance)),
					byPoints && enough && sum(t("wallet_after"), points(wallet.balance - reservation.amount))),
				this.chooseMethod(),
				!enough && h("p.notice.bad", t("problem_insufficient_points", { balance: wallet.balance, amount: reservation.amount })),
				this.problem, this.payButton, placesOf(reservation) > 1 && button("#release-part.button.quiet.wide", () => this.change("givePart"), t("release_part")), this.dropButton,
				h("p.muted.small", this.option.refundable_until ? t("refund_until", { time: momentThere(this.option.refundable_until, this.concert.time_zone) }) : t("refund_never")),
				this.said));
		this.count(reservation.created_at, reservation.expires_at);
	}

	// Somebody else takes the money; this page only hears of it, so it may be closed or be another one.
	showPaying() {
		const { payment, reservation } = this;
		const canStop = payment.status === "pending";
		this.problem = h("div", { role: "alert" });
		this.dropButton = button("#give-up.button.quiet.wide", () => this.giveUp(), t("payment_give_up"));
		put(this.node, h("section.card.checkout",
			canStop && this.remaining(t("payment_until")), this.head(), this.outcome(), lines(reservation, this.option.currency),
			h("dl.sums", h("dt", t("seats", { n: placesOf(reservation) })), h("dd.total", this.money(payment.amount))),
			this.problem, canStop && this.dropButton, canStop && this.said));
		if (canStop) this.count(reservation.created_at, payment.expires_at);
	}

	count(from, until) {
		this.untick = every(250, () => this.tick(from, until));
	}

	tick(created, expires) {
		const left = Date.parse(expires) - now();
		this.clock.textContent = countdown(left);
		const share = Math.max(0, Math.min(1, left / (Date.parse(expires) - Date.parse(created))));
		this.clockBar.firstChild.style.width = `${100 * share}%`;
		this.node.classList.toggle("hurry", left < 60_000);
		const said = left < 60_000 && left > 0 ? t("held_minute") : "";
		if (said !== this.said.textContent) this.said.textContent = said;
		// The server says when it is over, which may be a second later.
		if (left < -300 && !this.isBusy && now() - (this.checked ?? 0) > 1000) {
			this.checked = now();
			this.read().catch(() => {});
		}
	}

	get payText() {
		return t("pay", { amount: this.money(this.reservation.amount) });
	}

	// It may have become something else meanwhile.
	async attempt(act) {
		const { payButton, dropButton } = this;
		const busy = (isBusy) => {
			this.isBusy = dropButton.disabled = isBusy;
			if (payButton) {
				payButton.disabled = isBusy;
				payButton.textContent = isBusy ? t("paying") : this.payText;
			}
		};
		busy(true);
		try {
			await act();
			this.isBusy = false;
		} catch (problem) {
			busy(false);
			if (["already_paid", "payment_pending", "payment_under_way", "reservation_expired", "reservation_not_held"].includes(problem.code)) return this.read();
			put(this.problem, h("p.notice.bad", problem.words));
		}
	}

	pay() {
		return this.attempt(async () => {
			await post(`/v1/reservations/${this.id}/payments`, this.method === POINTS ? {} : { method: this.method }, this.payKey);
			// Whoever pays once more after this one has failed wishes something else.
			this.payKey = newKey();
			await this.read();
			if (this.reservation.status === "confirmed") toast(t("paid"), "good");
		});
	}

	giveUp() {
		return this.attempt(async () => {
			await remove(`/v1/payments/${this.payment.id}`);
			await this.read();
		});
	}

	release() {
		return this.attempt(async () => {
			await remove(`/v1/reservations/${this.id}`);
			this.app.go(`#/options/${this.option.id}`);
		});
	}

	showTicket() {
		const { reservation, option, paid } = this;
		const refundable = paid && option.refundable_until && Date.parse(option.refundable_until) > now();
		const offered = this.isOffered && h("div");
		const act = (id, name, change) => button(`#${id}.button.quiet`, () => this.change(change), t(name));
		put(this.node,
			h("p.done", icon("check"), t("ticket_yours")),
			h("article.ticket",
				h("div.stub", art(this.concert.title), h("div", this.head())),
				h("div.body", lines(reservation, option.currency),
					h("dl.sums", h("dt", t("reservation_confirmed")), h("dd.total", this.money(reservation.amount)),
						sum(t("ticket_number"), h("code", reservation.id)), sum(t("ticket_holder"), reservation.user_id), called(reservation)))),
			offered, paid === null && h("p#from-others.notice", t("ticket_from_others")),
			h("div.actions",
				h("a.button.quiet", { href: "#/tickets" }, t("tickets_all")),
				refundable && act("refund", "refund", "givePart"),
				option.status === "on_sale" && h("a#swap.button.quiet", { href: `#/reservations/${this.id}/swap` }, t("swap")),
				act("hand-on", "hand_on", "handOn")));
		if (offered) changes().then(({ showOffer }) => showOffer(this, offered)).catch(() => {});
	}

	showEnd() {
		const { payment } = this;
		const { status } = this.reservation;
		// With a payment by a provider it is known apart what was paid.
		const isOff = this.option.status === "cancelled" && status !== "expired";
		const words = isOff ? "ended_off" : payment ? `ended_${status}_unpaid` : status === "expired" ? "problem_reservation_expired" : `ended_${status}`;
		put(this.node, h("section.card.end",
			this.head(),
			h("p#ended.lead", t(words)), this.outcome(),
			lines(this.reservation, this.option.currency),
			h("a.button.wide", { href: `#/options/${this.option.id}` }, t("choose_again"))));
	}
}

export class TicketsView extends View {
	known = new Map();

	constructor(app) {
		super(app, "main.narrow");
		const title = heading(t("tickets"));
		if (!session.token) {
			put(this.node, title, h("p", t("session_text")), button(".button", () => session.needed(), t("session_begin")));
			return;
		}
		const fail = (problem) => toast(problem.words, "bad");
		const balance = h("strong");
		get("/v1/wallet").then((wallet) => {
			balance.textContent = points(wallet.balance);
			app.showWallet(wallet.balance);
		}).catch(fail);
		const list = (name, path, row) => h("section", h("h2", t(name)), paged(h("ul.records"), path, row, t("none"), fail));
		put(this.node, title, h("section.card.balance", icon("wallet"), h("span", t("wallet_balance")), balance),
			list("tickets_reservations", "/v1/reservations", (one) => this.reservation(one)),
			list("tickets_entries", "/v1/wallet/entries", (one) => this.entry(one)));
	}

	reservation(one) {
		const name = h("span.strong", "…");
		const price = h("span.price");
		this.about(one.option_id).then(({ title, currency }) => {
			name.textContent = title;
			price.textContent = money(one.amount, currency);
		}).catch(() => (name.textContent = one.id));
		return h("li", h("a", { href: `#/reservations/${one.id}` },
			h("div.grow", name, h("p.muted", t("seats", { n: placesOf(one) }), " · ", moment(one.created_at))),
			h("div.right", h(`span.pill.${one.status}`, t(`reservation_${one.status}`)), price)));
	}

	about(option) {
		if (!this.known.has(option)) {
			const read = async () => {
				const { concert_id: concert, currency } = await get(`/v1/options/${option}`);
				return { title: (await get(`/v1/concerts/${concert}`)).title, currency };
			};
			this.known.set(option, read());
		}
		return this.known.get(option);
	}

	entry(one) {
		const sign = one.kind === "debit" ? "−" : "+";
		return h("li", h("div.row",
			h("div.grow", h("span.strong", t(`entry_${one.kind}`)), h("p.muted", moment(one.at))),
			h("div.right", h(`span.price.${one.kind}`, `${sign}${points(one.amount)}`), h("span.muted", points(one.balance)))));
	}
}
