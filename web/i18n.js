// Texts, numbers and times in the reader's language. The texts themselves stand in i18n/, a file a language.

const LANGUAGES = { en: "English", ko: "한국어" };
const KEPT = "boxoffice.language";

let texts = {};
let language = "en";

function preferred() {
  const kept = localStorage.getItem(KEPT);
  if (kept in LANGUAGES) return kept;
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES);
  return wanted ?? "en";
}

/** Loads the language that is wanted. */
export async function load() {
  language = preferred();
  texts = (await import(`/web/i18n/${language}.js`)).default;
  document.documentElement.lang = language;
}

/** A way to choose another language; the page begins anew with it. */
export function chooser() {
  const [other, name] = Object.entries(LANGUAGES).find(([tag]) => tag !== language);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "ghost";
  button.lang = other;
  button.id = "language";
  button.title = name;
  button.textContent = matchMedia("(max-width: 640px)").matches ? other.toUpperCase() : name;
  button.addEventListener("click", () => {
    localStorage.setItem(KEPT, other);
    location.reload();
  });
  return button;
}

/** A text; `{name}` in it stands for a value. With `n`, the text `key.one` is taken for one. */
export function t(key, values = {}) {
  const plural = "n" in values ? `${key}.${new Intl.PluralRules(language).select(values.n)}` : key;
  const text = texts[plural] ?? texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? number(value) : value;
  });
}

/** Whether there is such a text. */
export const has = (key) => key in texts;

export const number = (n) => new Intl.NumberFormat(language).format(n);

export const percent = (share) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(share);

export const points = (n) => t("points", { amount: number(n) });

const format = (options) => (time) => new Intl.DateTimeFormat(language, options).format(new Date(time));

export const date = format({ weekday: "short", day: "numeric", month: "long", year: "numeric" });
export const time = format({ hour: "2-digit", minute: "2-digit" });
export const moment = format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
export const day = format({ day: "2-digit" });
export const month = format({ month: "short" });

/** A stretch of time as a clock shows it: 4:59. */
export function countdown(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** A stretch of time as people say it: about 5 minutes. */
export function about(seconds) {
  if (seconds < 45) return t("wait.seconds");
  if (seconds < 3600) return t("wait.minutes", { n: Math.max(1, Math.round(seconds / 60)) });
  return t("wait.hours", { n: Math.round(seconds / 3600) });
}
