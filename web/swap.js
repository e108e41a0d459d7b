// Seats for as many others, on the map or from lists: what is given, what is taken, and what that costs.

import { get, now, post } from "./api.js";
import { h, put, toast } from "./dom.js";
import { t } from "./i18n.js";
import { placesOf } from "./names.js";
import { choosePlaces } from "./parts.js";
import { FREE } from "./plan.js";
import { passFor } from "./queue.js";
import { SaleView } from "./sale.js";
import { forget } from "./tickets.js";

export class SwapView extends SaleView {
	async read() {
		// The route names the order, and that its option.
		this.orderId ??= this.id;
		this.reservation = await get(`/v1/reservations/${this.orderId}`);
		this.id = this.reservation.option_id;
		if (this.paid === undefined) {
			this.paid = await get(`/v1/payments/${this.reservation.payment_id}`).catch((problem) => {
				// It was handed on by whoever paid.
				if (problem.status !== 404) throw problem;
				return null;
			});
		}
		await super.read();
	}

	get back() {
		return `#/reservations/${this.orderId}`;
	}

	async enter() {
		if (this.reservation.status !== "confirmed") return this.app.go(this.back);
		await super.enter();
	}

	build() {
		super.build();
		this.regive();
	}

	// Which of it is kept is told by the boxes.
	async readHolds() {}

	showHolds() {}

	known() {}

	changed() {}

	remember() {}

	counterOf() {
		return null;
	}

	leads() {
		// Of one place there is nothing to choose.
		this.part = choosePlaces(this.reservation, { all: placesOf(this.reservation) === 1, changed: () => this.regive() });
		return h("section#give", h("h2", t("swap_give")), this.part.node);
	}

	areaForm() {
		const { option } = this;
		this.fields = option.areas.map((area) => ({
			area,
			left: h("span.muted"),
			field: h("input.count", { type: "number", min: 0, max: option.max_seats_per_reservation, value: 0, "data-area": area.name, oninput: () => this.showCart() }),
		}));
		this.areaRows = this.fields.map(({ area, left, field }) => () => {
			[left.textContent] = this.aboutArea(area);
			field.disabled = this.areas[area.name].available === 0 || !this.isOpen;
		});
		const row = ({ area, left, field }) => h("li", h("label.check", field, h("span.grow", area.name), left, h("span.price", this.money(option.prices[area.category]))));
		return this.fields.length > 0 && h("section", h("h2", t("swap_areas")), h("ul.parts", this.fields.map(row)));
	}

	get takenAreas() {
		const counts = this.fields.map(({ area, field }) => ({ area, count: Math.max(0, Math.trunc(field.value)) || 0 }));
		return counts.filter(({ count }) => count > 0);
	}

	get most() {
		return this.part.read().n;
	}

	get isRefundable() {
		const until = this.option.refundable_until;
		return this.paid !== null && until && Date.parse(until) > now();
	}

	// What is kept is marked; more than is given cannot be chosen.
	regive() {
		const { map, part } = this;
		if (map) {
			const given = new Set(part.read().seats);
			map.mine = new Set(this.reservation.seats.filter(({ id }) => !given.has(id)).map(({ id }) => this.plan.index.get(id)));
		}
		this.choose([...this.chosen].slice(0, this.most));
	}

	toggle(seat) {
		const box = this.part.boxes.get(this.plan.guids[seat]);
		if (box) {
			box.checked = !box.checked;
			return this.regive();
		}
		const { chosen } = this;
		if (!chosen.has(seat) && this.plan.status[seat] === FREE) {
			if (this.most === 0) return toast(t("swap_first"));
			// Instead of the one that was chosen first.
			if (chosen.size === this.most) chosen.delete(chosen.values().next().value);
		}
		super.toggle(seat);
	}

	describe(seat) {
		const box = this.part.boxes.get(this.plan.guids[seat]);
		const [name, category] = super.describe(seat);
		return box ? [name, category, t(box.checked ? "swap_given" : "seat_yours")] : super.describe(seat);
	}

	showCart() {
		if (this.barred) return put(this.cart, h("p.strong", this.barred));
		const { n, amount } = this.part.read();
		const areas = this.takenAreas;
		const chosen = [...this.chosen];
		const missing = n - chosen.length - areas.reduce((sum, { count }) => sum + count, 0);
		if (n === 0) return put(this.cart, h("p.muted", t("swap_first")));
		if (missing !== 0) return put(this.cart, h("p.muted", missing > 0 ? t("swap_take", { n: missing }) : t("swap_fewer", { n: -missing })));
		const price = (sum, { area, count }) => sum + count * this.option.prices[area.category];
		const difference = areas.reduce(price, this.priceOf(chosen)) - amount;
		const words = difference > 0 ? "swap_pays" : difference < 0 ? "swap_gets" : "swap_same";
		const refusal = difference > 0 && this.paid?.method ? "problem_price_would_rise" : difference < 0 && !this.isRefundable ? "swap_not_refundable" : null;
		put(this.cart,
			h("p", areas.map(({ area, count }) => `${area.name} × ${count}`).concat(chosen.length > 0 ? this.names(chosen) : []).join("; ")),
			h("p#difference.strong", refusal ? t(refusal) : t(words, { amount: this.money(Math.abs(difference)) })),
			h("button#swap.button.wide", { disabled: this.busy !== null || refusal !== null, onclick: () => this.take(this.wishFor(areas)) }, t("swap")));
	}

	wishFor(areas) {
		const { seats: give, areas: giveAreas } = this.part.body();
		const some = (name, all) => (all?.length > 0 ? { [name]: all } : {});
		return {
			...some("give", give), ...some("give_areas", giveAreas), ...some("take", this.selection.seats),
			...some("take_areas", areas.map(({ area, count }) => ({ name: area.name, count }))),
		};
	}

	async order(wish) {
		await post(`/v1/reservations/${this.orderId}/exchanges`, wish, undefined, passFor(this.concert));
		// A change ends an offer.
		forget(this.orderId);
		this.choose([]);
		toast(t("swap_done"), "good");
		this.app.go(this.back);
	}

	refused(problem) {
		if (problem.code === "not_refundable") this.tell(t("swap_not_refundable"));
		else super.refused(problem);
	}
}
