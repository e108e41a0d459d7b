// Small things that every page needs: elements, messages, dialogs.

import { choose, otherLanguage, page, t } from "./i18n.js";

const SVG = "http://www.w3.org/2000/svg";

const isShown = (child) => (child ?? false) !== false;

// An element: `h("p#id.class", {property, onevent}, ...children)`.
export const h = (tag, ...rest) => make(document.createElement.bind(document), tag, rest);

export const svg = (tag, ...rest) => make((name) => document.createElementNS(SVG, name), tag, rest);

function make(create, tag, rest) {
	const [, name, id, classes] = /^(\w+)(?:#([\w-]+))?(.*)$/.exec(tag);
	const element = create(name);
	if (id) element.id = id;
	if (classes) element.setAttribute("class", classes.slice(1).replaceAll(".", " "));
	const properties = rest[0]?.constructor === Object ? rest.shift() : {};
	// Clicks do not send the form around them, and no form leaves the page.
	if (name === "button" && properties.onclick) element.type = "button";
	if (name === "form") element.addEventListener("submit", (event) => event.preventDefault());
	for (const [key, value] of Object.entries(properties)) {
		if (!isShown(value)) continue;
		if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
		else if (key === "value" || key === "checked") element[key] = value;
		else element.setAttribute(key, value === true ? "" : value);
	}
	element.append(...rest.flat(2).filter(isShown));
	return element;
}

export const button = (kind, onclick, ...rest) => h(`button${kind}`, { onclick }, ...rest);

export const byId = (id) => document.getElementById(id);

export function put(element, ...children) {
	element.replaceChildren(...children.flat(2).filter(isShown));
	return element;
}

// Styles that come with a script.
export function wear(css) {
	const sheet = new CSSStyleSheet();
	sheet.replaceSync(css);
	document.adoptedStyleSheets.push(sheet);
}

// It takes the focus when its view is opened.
// The window is called by it, and by what else is to be told there.
export const heading = (text, more = null) => h("h1", { tabindex: "-1", "data-title": more }, text);

export function watchTitle() {
	const name = () => {
		const title = byId("page").querySelector("h1");
		document.title = [title?.textContent, title?.dataset.title, "boxoffice"].filter(Boolean).join(" · ");
	};
	new MutationObserver(name).observe(byId("page"), { childList: true, subtree: true });
}

export const labelled = (text, control) => [h("label", { for: control.id }, text), control];

export const statusOf = (option) => h(`span.pill.${option.status}`, t(`status_${option.status}`));

export function chooser() {
	const [lang, name] = otherLanguage();
	const isNarrow = matchMedia("(max-width: 640px)").matches;
	return h("button#language.ghost", { lang, title: name, onclick: () => choose(lang) }, isNarrow ? lang.toUpperCase() : name);
}

// `take` says whether the token will do.
export function signIn(take, done, before, actions = [], elsewhere = null) {
	// The host does it, where it has a page for that.
	if (elsewhere) return h("form", { onsubmit: elsewhere }, h("h2", t("session_title")), before, h("div.actions", actions, h("button.button", t("session_begin"))));
	const field = h("textarea#token", { rows: 4, required: true, autocomplete: "off", spellcheck: "false" });
	const wrong = h("p.notice.bad", { role: "alert", hidden: true }, t("session_wrong"));
	const onsubmit = async () => {
		wrong.hidden = await take(field.value);
		if (wrong.hidden) done();
	};
	return h("form", { onsubmit }, h("h2", t("session_title")), before, labelled(t("session_token"), field), wrong,
		h("div.actions", actions, h("button.button", t("session_begin"))));
}

const ICONS = {
	back: "M15 5l-7 7 7 7",
	check: "M5 12.5l4.5 4.5L19 7.5",
	close: "M6 6l12 12M18 6L6 18",
	plus: "M12 5v14M5 12h14",
	minus: "M5 12h14",
	open: "M14 4h6v6M20 4l-7 7M10 20H4v-6M4 20l7-7",
	fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
	person: "M12 12a4 4 0 100-8 4 4 0 000 8zM4.5 20a7.5 7.5 0 0115 0",
	ticket: "M4 7h16v3.5a1.5 1.5 0 000 3V17H4v-3.5a1.5 1.5 0 000-3V7zM14 7v10",
	wallet: "M4 7h15v12H4zM4 7l11-3v3M15 13h.5",
	clock: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 7.5V12l3 2",
};

// Never the only thing that says something.
export function icon(name) {
	return svg("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

export function toast(text, kind = "info") {
	const box = byId("toasts");
	const message = h(`div.toast.${kind}`, h("p", text),
		h("button.ghost.round", { "aria-label": "✕", onclick: () => message.remove() }, icon("close")));
	box.append(message);
	while (box.children.length > 3) box.firstChild.remove();
	setTimeout(() => message.remove(), 7000);
}

export function open(...children) {
	const dialog = h("dialog", { onclose: () => dialog.remove() }, ...children);
	document.body.append(dialog);
	dialog.showModal();
	return dialog;
}

export function confirm(title, text, yes, no) {
	const { promise, resolve } = Promise.withResolvers();
	const dialog = open(h("h2", title), h("p", text), h("div.actions",
		button(".button.quiet", () => dialog.close(), no),
		button(".button", () => dialog.close("yes"), yes)));
	dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
	return promise;
}

// Also when the page is looked at again; returns how to stop.
export function every(milliseconds, tick) {
	const timer = setInterval(tick, milliseconds);
	const seen = () => document.hidden || tick();
	document.addEventListener("visibilitychange", seen);
	tick();
	return () => {
		clearInterval(timer);
		document.removeEventListener("visibilitychange", seen);
	};
}

export class View {
	ending = [];

	constructor(app, tag, tongue = page) {
		this.app = app;
		this.node = h(tag, h("p.loading", tongue.t("loading")));
	}

	guard(promise) {
		promise.catch((problem) => this.app.fail(problem, this.node));
	}

	close() {
		this.isClosed = true;
		for (const end of this.ending) end();
	}
}
