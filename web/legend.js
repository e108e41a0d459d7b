// What the colours and signs of a map mean, and which categories one looks for.

import { h, labelled, put } from "./dom.js";
import { drawSign, drawWheelchair } from "./draw.js";
import { page } from "./i18n.js";

export function sign(tones, kind, color = null) {
	const canvas = h("canvas.sign", { width: "40", height: "40", "aria-hidden": "true" });
	const ctx = canvas.getContext("2d");
	if (kind === "accessible") drawWheelchair(ctx, tones.ink, 2, 2, 36);
	else drawSign(ctx, tones, kind, color, 3, 3, 34);
	return canvas;
}

const SIGNS = [["mine", "seat_yours"], ["held", "seat_held"], ["sold", "seat_sold"], ["blocked", "seat_blocked"]];

export class Legend {
	wanted = new Set();

	// `accessible` are the categories for wheelchairs, `only` those that can be looked for, if not all.
	constructor(map, accessible, money, { tongue = page, only = null } = {}) {
		Object.assign(this, { map, accessible, money, only, t: tongue.t });
		this.node = h("section.legend", { "aria-label": this.t("legend") });
		this.show();
	}

	show() {
		const { map: { plan, painter: { tones } }, accessible, money, t } = this;
		const isOffered = (_, i) => !this.only || this.only.has(i);
		this.free = plan.categories.map(() => h("span.muted"));
		this.buttons = plan.categories.map(({ name, price }, i) => h("button.filter", { "aria-pressed": "false", onclick: () => this.toggle(i) },
			sign(tones, "free", tones.category(i)), h("span.name", name, accessible.includes(name) && sign(tones, "accessible")), this.free[i], h("span.price", money(price))));
		const wanted = this.most?.value ?? "";
		const prices = [...new Set(plan.categories.filter(isOffered).map(({ price }) => price))].sort((a, b) => a - b);
		this.most = h("select#price-most", { onchange: () => this.apply() }, h("option", { value: "" }, t("price_any")),
			prices.slice(0, -1).map((price) => h("option", { value: price }, t("price_most", { amount: money(price) }))));
		this.most.value = wanted;
		this.all = h("button.ghost", { hidden: true, onclick: () => this.clear() }, t("legend_all"));
		put(this.node,
			h("div.filters", h("h2", t("legend")), this.all),
			h("ul.prices", this.buttons.filter(isOffered).map((button) => h("li", button))),
			prices.length > 1 && h("div.most", labelled(t("price"), this.most)),
			h("ul.signs", SIGNS.map(([kind, key]) => h("li", sign(tones, kind), t(key))), accessible.length > 0 && h("li", sign(tones, "accessible"), t("seat_accessible"))));
		this.count();
	}

	count() {
		this.map.plan.categories.forEach((category, i) => (this.free[i].textContent = this.t("left", { n: category.free })));
	}

	toggle(category) {
		if (!this.wanted.delete(category)) this.wanted.add(category);
		this.apply();
	}

	clear() {
		this.wanted.clear();
		this.most.value = "";
		this.apply();
		this.buttons[0].focus();
	}

	// What is not looked for stays on the map, but faint.
	apply() {
		const { map, wanted, most, only } = this;
		const isLooked = ({ price }, i) => (!only || only.has(i)) && (wanted.size === 0 || wanted.has(i)) && (most.value === "" || price <= Number(most.value));
		const looked = [...map.plan.categories.keys()].filter((i) => isLooked(map.plan.categories[i], i));
		const isAll = wanted.size === 0 && most.value === "";
		map.painter.filter = isAll && !only ? null : new Set(looked);
		this.buttons.forEach((button, i) => button.setAttribute("aria-pressed", wanted.has(i)));
		this.all.hidden = isAll;
		map.redraw("all");
	}
}
