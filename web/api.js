// The API as the pages call it: who calls, and where one signs in.

import { Api, claimsOf } from "./call.js";
import { tellTabs } from "./choice.js";
import { page } from "./i18n.js";

export { jittered, newKey } from "./call.js";

const KEPT = "boxoffice.token";
const PLACE = "boxoffice.place";
// Where tabs show what has changed.
const ORDERS = /\/(reservations|payments)\b/;

export const session = {
	token: null,
	user: null,

	// The token in the address does not stay there.
	begin() {
		const given = /^#(?:.*&)?token=([^&]+)/.exec(location.hash);
		if (given) {
			// Where one was before the host asked who one is.
			const place = sessionStorage.getItem(PLACE) ?? "";
			sessionStorage.removeItem(PLACE);
			history.replaceState(null, "", location.pathname + location.search + place);
			if (this.take(decodeURIComponent(given[1]))) return;
		}
		this.take(sessionStorage.getItem(KEPT));
	},

	// False if it is none, or over.
	take(token) {
		const claims = token ? claimsOf(token.trim()) : null;
		if (!claims) return false;
		this.token = token.trim();
		this.user = claims.sub;
		sessionStorage.setItem(KEPT, this.token);
		return true;
	},

	end() {
		sessionStorage.removeItem(KEPT);
		this.token = this.user = null;
	},

	// Set by the page.
	needed() {},
};

// Of the page: its own server, and whoever uses it.
export const api = new Api({
	base: "",
	tongue: page,
	token: () => session.token,
	refused(problem) {
		session.end();
		session.needed(problem);
	},
	written: (path) => ORDERS.test(path) && tellTabs(),
});

export const { ask, get, now, patch, post, remove } = api;

let site = null;

// The page of the host where one signs in; null where there is none.
export async function loginPage() {
	site ??= get("/v1/site").catch((problem) => {
		if (problem.status !== 404) site = null;
		return {};
	});
	const { login_url: url } = await site;
	return url && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) ? url : null;
}

// From there one comes back with a token, to where one was.
export function goTo(url) {
	const back = new URL(url);
	back.searchParams.set("return_to", location.origin + location.pathname + location.search);
	sessionStorage.setItem(PLACE, location.hash);
	location.assign(back);
}
