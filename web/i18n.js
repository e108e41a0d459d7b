// Texts, numbers and times in the reader's language.

const LANGUAGES = { en: "English", ko: "한국어" };
const KEPT = "boxoffice.language";

let texts = {};
let language = "en";
// With the region that the browser is at home in: English alone is not American.
let locale = "en-GB";

function preferred() {
	const kept = localStorage.getItem(KEPT);
	if (kept in LANGUAGES) return kept;
	return navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? "en";
}

// Texts that only a part of a page needs.
export async function loadTexts(part) {
	texts = { ...texts, ...(await import(`/web/i18n/${language}.${part}.js`)).default };
}

export async function load() {
	language = preferred();
	texts = (await import(`/web/i18n/${language}.js`)).default;
	document.documentElement.lang = language;
	const isAtHome = navigator.language.startsWith(`${language}-`);
	locale = isAtHome ? navigator.language : language === "en" ? "en-GB" : language;
}

export const otherLanguage = () => Object.entries(LANGUAGES).find(([tag]) => tag !== language);

export function choose(tag) {
	localStorage.setItem(KEPT, tag);
	location.reload();
}

export function t(key, values = {}) {
	const plural = "n" in values ? `${key}_${new Intl.PluralRules(language).select(values.n)}` : key;
	const text = texts[plural] ?? texts[key] ?? key;
	return text.replace(/\{(\w+)\}/g, (_, name) => {
		const value = values[name];
		return typeof value === "number" ? number(value) : value;
	});
}

export const has = (key) => key in texts;

export const number = (n) => n.toLocaleString(locale);

export const percent = (share) => share.toLocaleString(locale, { style: "percent", maximumFractionDigits: 1 });

const currencies = new Map();

// An amount in the smallest unit of a currency; without one it is of points.
export function money(amount, currency = null) {
	if (!currency) return t("points", { amount: number(amount) });
	if (!currencies.has(currency)) currencies.set(currency, new Intl.NumberFormat(locale, { style: "currency", currency }));
	const format = currencies.get(currency);
	return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
}

export const points = (n) => money(n);

const writers = new Map();

// In the time of a zone, by its IANA name; without one, or of one that is unknown here, in that of the browser.
function writer(options, zone) {
	const key = JSON.stringify([options, zone]);
	if (!writers.has(key)) {
		try {
			writers.set(key, new Intl.DateTimeFormat(locale, { ...options, timeZone: zone }));
		} catch {
			writers.set(key, new Intl.DateTimeFormat(locale, options));
		}
	}
	return writers.get(key);
}

const format = (options) => (time, zone) => writer(options, zone).format(new Date(time));

export const date = format({ weekday: "short", day: "numeric", month: "long", year: "numeric" });
export const time = format({ hour: "2-digit", minute: "2-digit" });
// These name the zone.
export const clock = format({ hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
export const momentThere = format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
export const span = (from, to, zone) => writer({ day: "numeric", month: "long", year: "numeric" }, zone).formatRange(new Date(from), new Date(to));
export const moment = format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
export const day = format({ day: "2-digit" });
export const month = format({ month: "short" });

export function countdown(milliseconds) {
	const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
	return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

export function about(seconds) {
	if (seconds < 45) return t("wait_seconds");
	if (seconds < 3600) return t("wait_minutes", { n: Math.max(1, Math.round(seconds / 60)) });
	return t("wait_hours", { n: Math.round(seconds / 3600) });
}
