// Curves over time, each with its figures as a table.

import { h, put, svg } from "./dom.js";
import { number, t, time } from "./i18n.js";

const WIDTH = 600;
const HEIGHT = 170;
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 8, 10, 24];
const ROWS = 12;

function roundUp(n) {
	const step = 10 ** Math.floor(Math.log10(Math.max(1, n)));
	return [1, 2, 5, 10].map((factor) => factor * step).find((candidate) => candidate >= n);
}

// `series`: `{name, kind, value(sample)}`; with `stacked`, each stands on the one before.
export class Chart {
	constructor(title, series, { stacked = false, show = number } = {}) {
		Object.assign(this, { series, stacked, show });
		this.picture = svg("svg.chart", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, preserveAspectRatio: "none" });
		this.high = h("span.high");
		this.from = h("span");
		this.to = h("span");
		this.table = h("table");
		this.details = h("details", { ontoggle: () => this.details.open && this.tell() }, h("summary", t("ops_table")), this.table);
		this.node = h("section.card.curve",
			h("header", h("h2", title), h("ul", series.map((one) => h(`li.${one.kind}`, one.name)))),
			h("div.plot", this.picture, this.high, h("div.times", this.from, this.to)),
			this.details);
		this.samples = [];
	}

	update(samples) {
		this.samples = samples;
		if (samples.length < 2) return;
		const [first, last] = [Date.parse(samples[0].at), Date.parse(samples.at(-1).at)];
		const heights = samples.map((sample) => this.series.map((one) => one.value(sample)));
		if (this.stacked) for (const row of heights) for (let k = 1; k < row.length; k += 1) row[k] += row[k - 1];
		const top = roundUp(Math.max(1, ...heights.flat()));
		const x = (k) => LEFT + ((Date.parse(samples[k].at) - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
		const floor = HEIGHT - BOTTOM;
		const y = (value) => floor - (value / top) * (floor - TOP);
		const line = (s) => heights.map((row, k) => `${k === 0 ? "M" : "L"}${x(k).toFixed(1)} ${y(row[s]).toFixed(1)}`).join("");
		const curves = this.series.map((one, s) => [
			svg(`path.area.${one.kind}`, { d: `${line(s)}L${x(samples.length - 1)} ${floor}L${x(0)} ${floor}Z` }),
			svg(`path.stroke.${one.kind}`, { d: line(s), "vector-effect": "non-scaling-stroke" }),
		]);
		const grid = [0, 0.5, 1].map((share) => svg("path.grid", { d: `M${LEFT} ${y(top * share)}H${WIDTH - RIGHT}`, "vector-effect": "non-scaling-stroke" }));
		put(this.picture, grid, this.stacked ? curves.reverse() : curves);
		this.high.textContent = this.show(top);
		this.from.textContent = time(first);
		this.to.textContent = time(last);
		if (this.details.open) this.tell();
	}

	tell() {
		const step = Math.max(1, Math.ceil(this.samples.length / ROWS));
		const rows = this.samples.filter((_, k) => (this.samples.length - 1 - k) % step === 0);
		put(this.table,
			h("thead", h("tr", h("th", t("ops_time")), this.series.map((one) => h("th", one.name)))),
			h("tbody", rows.map((sample) => h("tr", h("td", time(sample.at)), this.series.map((one) => h("td", this.show(one.value(sample))))))));
	}
}
