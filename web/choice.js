// What one has chosen and where one looks, by performance: kept in this browser, so that signing in, a reload, another
// language and another tab find it again. And what one tab tells the others.

const KEPT = "boxoffice.choice";
const AGE_MS = 86_400_000;

function all() {
	try {
		return JSON.parse(localStorage.getItem(KEPT)) ?? {};
	} catch {
		return {};
	}
}

export const kept = (option) => all()[option] ?? {};

export function keep(option, part) {
	const now = Date.now();
	const young = Object.entries(all()).filter(([, { at }]) => now - at < AGE_MS);
	const choices = Object.fromEntries(young);
	choices[option] = { ...choices[option], ...part, at: now };
	localStorage.setItem(KEPT, JSON.stringify(choices));
}

export const forgetChoices = () => localStorage.removeItem(KEPT);

const channel = new BroadcastChannel("boxoffice");

// That one's own orders have changed.
export const tellTabs = () => channel.postMessage("orders");

// Returns how to stop.
export function heed(told) {
	channel.addEventListener("message", told);
	return () => channel.removeEventListener("message", told);
}
