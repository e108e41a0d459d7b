// Lists that come in pages, and the picture of a concert.

import { get } from "./api.js";
import { h, svg } from "./dom.js";
import { t } from "./i18n.js";

export function paged(list, path, row, none, fail) {
	let cursor = null;
	const load = async () => {
		const page = await get(`${path}?limit=12${cursor ? `&cursor=${cursor}` : ""}`);
		if (page.items.length === 0 && !cursor) list.append(h("li.muted", none));
		list.append(...page.items.map(row));
		cursor = page.next_cursor;
		more.hidden = !cursor;
	};
	const more = h("button.button.quiet", { hidden: true, onclick: () => load().catch(fail) }, t("more_show"));
	load().catch(fail);
	return [list, more];
}

// Always the same for a concert.
export function art(title) {
	let seed = 2166136261;
	for (const char of title) seed = Math.imul(seed ^ char.codePointAt(0), 16777619) >>> 0;
	const hue = seed % 360;
	const rows = Array.from({ length: 9 }, (_, k) => svg("circle", { cx: 160 + ((seed >>> 9) % 120) - 60, cy: 190, r: 46 + 19 * k, class: k % 3 === (seed >>> 5) % 3 ? "b" : "a", "stroke-dasharray": `0 ${15 + ((seed >>> (k + 3)) % 3)}` }));
	const picture = svg("svg.art", { viewBox: "0 0 320 160", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" }, rows);
	picture.style.setProperty("--hue", hue);
	picture.style.setProperty("--other", (hue + 40 + ((seed >>> 12) % 80)) % 360);
	return picture;
}
