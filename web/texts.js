// Loads the texts of the pages, in the reader's language.

import { page, preferred } from "./i18n.js";

export async function load() {
	const language = preferred();
	page.use(language, (await import(`/web/i18n/${language}.js`)).default);
	document.documentElement.lang = language;
}

// Those that only a part of a page needs.
export async function loadTexts(part) {
	const more = (await import(`/web/i18n/${page.language}.${part}.js`)).default;
	page.texts = { ...page.texts, ...more };
}
