// Texts, numbers and times in the reader's language.

const LANGUAGES = { en: "English", ko: "한국어" };
const KEPT = "boxoffice.language";

// With the region that the browser is at home in: English alone is not American.
function localeOf(language) {
	const isAtHome = navigator.language.startsWith(`${language}-`);
	return isAtHome ? navigator.language : language === "en" ? "en-GB" : language;
}

const currencies = new Map();

// Texts and numbers of one language.
export class Tongue {
	texts = {};
	language = "en";
	locale = "en-GB";

	use(language, texts) {
		Object.assign(this, { language, texts, locale: localeOf(language) });
	}

	t = (key, values = {}) => {
		const plural = "n" in values ? `${key}_${new Intl.PluralRules(this.language).select(values.n)}` : key;
		const text = this.texts[plural] ?? this.texts[key] ?? key;
		return text.replace(/\{(\w+)\}/g, (_, name) => {
			const value = values[name];
			return typeof value === "number" ? this.number(value) : value;
		});
	};

	has = (key) => key in this.texts;

	number = (n) => n.toLocaleString(this.locale);

	// An amount in the smallest unit of a currency; without one it is of points.
	money = (amount, currency = null) => {
		if (!currency) return this.t("points", { amount: this.number(amount) });
		const key = `${this.locale} ${currency}`;
		if (!currencies.has(key)) currencies.set(key, new Intl.NumberFormat(this.locale, { style: "currency", currency }));
		const format = currencies.get(key);
		return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
	};
}

// That of the page.
export const page = new Tongue();
export const { t, has, number, money } = page;

export function preferred() {
	const kept = localStorage.getItem(KEPT);
	if (kept in LANGUAGES) return kept;
	return navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? "en";
}

export const otherLanguage = () => Object.entries(LANGUAGES).find(([tag]) => tag !== page.language);

export function choose(tag) {
	localStorage.setItem(KEPT, tag);
	location.reload();
}

export const percent = (share) => share.toLocaleString(page.locale, { style: "percent", maximumFractionDigits: 1 });

export const points = (n) => money(n);

const writers = new Map();

// In the time of a zone, by its IANA name; without one, or of one that is unknown here, in that of the browser.
function writer(options, zone, { locale } = page) {
	const key = JSON.stringify([options, zone, locale]);
	if (!writers.has(key)) {
		try {
			writers.set(key, new Intl.DateTimeFormat(locale, { ...options, timeZone: zone }));
		} catch {
			writers.set(key, new Intl.DateTimeFormat(locale, options));
		}
	}
	return writers.get(key);
}

const format = (options) => (time, zone, tongue) => writer(options, zone, tongue).format(new Date(time));

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
