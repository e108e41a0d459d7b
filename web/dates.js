// The performances of a concert: all of them, in order, and in a few words.

import { get, now } from "./api.js";
import { clock, date, span, t } from "./i18n.js";

// So many are asked for at a time.
const WIDTH = 6;
// What a concert is called by, if any of its performances is that.
const STATUSES = ["on_sale", "scheduled", "sold_out", "closed", "cancelled"];

let running = 0;
const waiting = [];

async function inTurn(work) {
	if (running >= WIDTH) await new Promise((resolve) => waiting.push(resolve));
	running += 1;
	try {
		return await work();
	} finally {
		running -= 1;
		waiting.shift()?.();
	}
}

const isOver = ({ starts_at: starts }) => Date.parse(starts) < now();

// What is over comes last.
export async function performances(concert) {
	const options = await Promise.all(concert.options.map((id) => inTurn(() => get(`/v1/options/${id}`))));
	return options.sort((a, b) => isOver(a) - isOver(b) || a.starts_at.localeCompare(b.starts_at));
}

// When it begins at the venue, by the clock there.
export const begins = ({ starts_at: starts }, { time_zone: zone }) => `${date(starts, zone)} · ${clock(starts, zone)}`;

// Of those that are still to come, or of all if there are none: when, from which price, and whether there is a sale.
export function inShort(options, { time_zone: zone }) {
	const coming = options.filter((option) => !isOver(option) && option.status !== "cancelled");
	const shown = coming.length > 0 ? coming : options;
	const status = STATUSES.find((name) => shown.some((option) => option.status === name));
	const least = ({ prices }) => Math.min(...Object.values(prices));
	const cheapest = shown.filter((option) => option.status === status).reduce((a, b) => (least(b) < least(a) ? b : a));
	const [first, last] = [shown[0].starts_at, shown.at(-1).starts_at];
	const when = shown.length === 1 ? date(first, zone) : t("concert_dates", { n: shown.length, span: span(first, last, zone) });
	return { when, status, price: least(cheapest), currency: cheapest.currency };
}
