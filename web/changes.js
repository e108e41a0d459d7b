// What few do with an order: give a part of it back, hand it on, or take what is handed on to them.

import { get, newKey, post, remove, session } from "./api.js";
import { begins } from "./dates.js";
import { View, button, h, heading, labelled, open, put, toast } from "./dom.js";
import { moment, number, t } from "./i18n.js";
import { art } from "./list.js";
import { choosePlaces } from "./parts.js";
import { Plan } from "./plan.js";
import { placesOf, seatName } from "./names.js";
import { forget, keep, offerOf } from "./tickets.js";

function decoded(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

// A form in a dialog that says what is refused, and closes once it is done.
function ask(title, [yes, no], fields, act) {
	const problem = h("div", { role: "alert" });
	const send = h("button.button", yes);
	async function onsubmit() {
		send.disabled = true;
		try {
			await act();
			dialog.close();
		} catch (refusal) {
			if (!refusal.words) throw refusal;
			put(problem, h("p.notice.bad", refusal.words));
			send.disabled = false;
		}
	}
	const dialog = open(h("form", { onsubmit }, h("h2", title), fields, problem,
		h("div.actions", button(".button.quiet", () => dialog.close(), no), send)));
	return { dialog, send };
}

// Of a hold, places that are let go; of what is paid, places that are given back.
export function givePart(view) {
	const { reservation } = view;
	const isHeld = reservation.status === "held";
	const [title, path] = isHeld ? ["release_part", `/v1/reservations/${view.id}/releases`] : ["refund", `/v1/payments/${reservation.payment_id}/refunds`];
	// The same wish, however often the button is pressed.
	let key = newKey();
	const part = choosePlaces(reservation, { all: !isHeld, changed: () => show() });
	const sum = h("p.strong", { "aria-live": "polite" });
	const { send } = ask(t(title), [t(isHeld ? "release_part_yes" : title), t("keep")], [h("p.muted", t(isHeld ? "release_part_text" : "refund_part_text")), part.node, sum], async () => {
		const isAll = part.read().n === placesOf(reservation);
		await post(path, isAll && !isHeld ? {} : part.body(), key);
		// A change ends an offer.
		forget(view.id);
		toast(t(isHeld ? "release_part_done" : view.paid?.method ? "refund_begun" : "refunded"), "good");
		await view.read();
	});
	function show() {
		const { n, amount } = part.read();
		key = newKey();
		send.disabled = n === 0;
		sum.textContent = n === 0 ? t("part_none") : isHeld ? t("part_kept", { n: placesOf(reservation) - n }) : t("part_back", { amount: view.money(amount) });
	}
	show();
}

export function handOn(view) {
	const to = h("input#to", { required: true, maxlength: 255, autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
	const key = newKey();
	let sent = null;
	ask(t("hand_on"), [t("hand_on_offer"), t("cancel")], [h("p", t("hand_on_text")), labelled(t("hand_on_to"), to)], async () => {
		const user = to.value.trim();
		try {
			// Another wish, once it names somebody else.
			sent = sent?.user === user ? sent : { user, key: sent ? newKey() : key };
			const offer = await post(`/v1/reservations/${view.id}/transfers`, { to: user }, sent.key);
			keep(view.id, { ...offer, to: user });
		} catch (problem) {
			if (problem.code === "invalid_request") problem.code = "hand_on_to";
			throw problem;
		}
		if (!view.isClosed) view.show();
	});
	to.focus();
}

// What is offered stands in the link: the API tells the receiver nothing of an order before it is theirs.
function linkOf({ id, option_id: option, seats, areas }, offer) {
	const list = (all) => all.join(",");
	const [some, counts] = [list(seats.map((seat) => encodeURIComponent(seat.id))), list(areas.map((area) => `${encodeURIComponent(area.name)}:${area.count}`))];
	return `${location.origin}${location.pathname}#/offers/${offer.id}/${option}/${some}/${counts}`;
}

export function showOffer(view, node) {
	const offer = offerOf(view.id);
	const link = h("input#offer-link", { readonly: true, value: linkOf(view.reservation, offer), onfocus: () => link.select() });
	const copy = () => navigator.clipboard?.writeText(link.value).then(() => toast(t("copied"), "good"), () => link.select()) ?? link.select();
	async function withdraw() {
		try {
			await remove(`/v1/transfers/${offer.id}`);
			forget(view.id);
			toast(t("offer_withdrawn"), "good");
		} catch (problem) {
			if (problem.status !== 404) return toast(problem.words, "bad");
			// It has ended, or was accepted: then the order is not theirs any more.
			if (!(await view.isTheirs())) return;
			forget(view.id);
		}
		await view.read();
	}
	put(node, h("section.notice", h("p.strong", t("offer_open", { user: offer.to, time: moment(offer.expires_at) })), h("p", t("offer_link_text")),
		h("label.unseen", { for: "offer-link" }, t("offer_link")), link,
		h("div.actions", button("#withdraw.button.small.quiet", withdraw, t("offer_withdraw")), button(".button.small", copy, t("copy")))));
}

export class OfferView extends View {
	// The same wish, however often the button is pressed.
	key = newKey();

	constructor(app, id, option, seats, areas) {
		super(app, "main.narrow");
		this.id = id;
		this.guard(this.read(option, seats.split(",").filter(Boolean).map(decoded), areas.split(",").filter(Boolean)));
	}

	async read(id, seats, areas) {
		const option = await get(`/v1/options/${id}`);
		const [concert, json] = await Promise.all([get(`/v1/concerts/${option.concert_id}`), get(`/v1/options/${id}/plan`)]);
		if (this.isClosed) return;
		const plan = new Plan(json);
		const known = seats.map((guid) => plan.index.get(guid)).filter((i) => i !== undefined);
		const name = (i) => seatName({
			id: plan.guids[i], zone: plan.zoneAt(i).name, row: plan.rowAt(i).name, row_label: plan.rowAt(i).label, number: plan.numbers[i], seat_label: plan.labelAt(i),
		});
		const line = (text, category) => h("li", h("span", text), h("span.muted", category));
		const area = (text) => {
			const [named, count] = text.split(":");
			const found = option.areas.find((one) => one.name === decoded(named));
			return found && line(`${found.name} × ${number(Number(count) || 0)}`, found.category);
		};
		this.problem = h("div", { role: "alert" });
		this.acceptButton = button("#accept.button.wide.large", () => this.accept(), t("offer_accept"));
		put(this.node,
			h("article.ticket",
				h("div.stub", art(concert.title), h("div", h("p.eyebrow", begins(option, concert)), heading(concert.title))),
				h("div.body", h("p.lead", t("offer_yours")), h("ul.lines", known.map((i) => line(name(i), plan.categoryAt(i).name)), areas.map(area)),
					h("p.muted.small", t("offer_text")), this.problem,
					session.token ? this.acceptButton : button("#begin-offer.button.wide.large", () => session.needed(), t("session_begin")))));
	}

	async accept() {
		this.acceptButton.disabled = true;
		try {
			const reservation = await post(`/v1/transfers/${this.id}/accept`, {}, this.key);
			toast(t("offer_accepted"), "good");
			this.app.go(`#/reservations/${reservation.id}`);
		} catch (problem) {
			if (!problem.words) throw problem;
			this.acceptButton.disabled = false;
			put(this.problem, h("p.notice.bad", problem.status === 404 ? t("offer_gone") : problem.words));
		}
	}
}
