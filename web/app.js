// The page for buyers: who one is, where one is, and the concerts.

import { get, session } from "./api.js";
import { h, icon, put, toast } from "./dom.js";
import { chooser, date, day, load, month, number, points, t, time } from "./i18n.js";
import { SaleView, fillBar, priceRange } from "./sale.js";
import { ReservationView, TicketsView, art } from "./tickets.js";

const PAGE = 12;

class ConcertsView {
  constructor(app) {
    this.app = app;
    this.cards = h("ul", { class: "concerts" });
    this.more = h("button", { type: "button", class: "button quiet", hidden: true, onclick: () => this.load() }, t("more.show"));
    this.node = h("main", {}, h("h1", { tabindex: "-1" }, t("concerts")), this.cards, this.more);
    this.load().catch((problem) => app.fail(problem, this.node));
  }

  close() {}

  async load() {
    const page = await get(`/v1/concerts?limit=${PAGE}${this.cursor ? `&cursor=${this.cursor}` : ""}`);
    if (page.items.length === 0 && !this.cursor) this.cards.append(h("li", { class: "muted" }, t("concerts.none")));
    this.cursor = page.next_cursor;
    this.more.hidden = !this.cursor;
    this.cards.append(...page.items.map((concert) => this.card(concert)));
  }

  card(concert) {
    const about = h("p", { class: "muted" }, t("loading"));
    const price = h("p", { class: "price" });
    const status = h("span", { class: "pill", hidden: true });
    const next = concert.options.at(-1);
    if (!next) about.textContent = t("concert.none");
    else {
      get(`/v1/options/${next}`).then((option) => {
        about.textContent = concert.options.length === 1 ? date(option.starts_at) : t("concert.dates", { n: concert.options.length });
        price.textContent = t("from", { amount: points(Math.min(...Object.values(option.prices))) });
        status.textContent = t(`status.${option.status}`);
        status.classList.add(option.status);
        status.hidden = false;
      }).catch(() => (about.textContent = ""));
    }
    return h("li", {}, h("a", { class: "card concert", href: `#/concerts/${concert.id}` },
      art(concert.title), h("div", { class: "text" }, h("h2", {}, concert.title), about, h("div", { class: "foot" }, price, status))));
  }
}

class ConcertView {
  constructor(app, id) {
    this.app = app;
    this.node = h("main", { class: "narrow" }, h("p", { class: "loading" }, t("loading")));
    this.read(id).catch((problem) => app.fail(problem, this.node));
  }

  close() {}

  async read(id) {
    const concert = await get(`/v1/concerts/${id}`);
    const options = await Promise.all(concert.options.slice(-40).map((option) => get(`/v1/options/${option}`)));
    options.sort((a, b) => a.starts_at.localeCompare(b.starts_at));
    const hasLine = concert.waiting_room.mode !== "open";
    put(this.node,
      h("a", { class: "back", href: "#/" }, icon("back"), t("concerts")),
      h("header", { class: "banner" }, art(concert.title), h("h1", { tabindex: "-1" }, concert.title)),
      hasLine ? h("p", { class: "notice" }, icon("clock"), t("concert.line")) : null,
      h("ul", { class: "dates" }, options.map((option) => this.option(option))),
      options.length === 0 ? h("p", { class: "muted" }, t("concert.none")) : null);
  }

  option(option) {
    const isOpen = option.status === "on_sale";
    return h("li", {}, h("a", { class: "card date", href: `#/options/${option.id}` },
      h("div", { class: "leaf", "aria-hidden": "true" }, h("span", {}, month(option.starts_at)), h("strong", {}, day(option.starts_at))),
      h("div", { class: "grow" },
        h("p", { class: "strong" }, date(option.starts_at)),
        h("p", { class: "muted" }, time(option.starts_at), " · ", priceRange(option.prices)),
        fillBar(option.counts)),
      h("div", { class: "right" }, h("span", { class: `pill ${option.status}` }, t(`status.${option.status}`)),
        h("span", { class: isOpen ? "button small" : "button small quiet" }, t(isOpen ? "choose.seats" : "look")))));
  }
}

const ROUTES = [
  [/^#\/concerts\/([\w-]+)$/, (app, id) => new ConcertView(app, id)],
  [/^#\/options\/([\w-]+)$/, (app, id) => new SaleView(app, id)],
  [/^#\/reservations\/([\w-]+)$/, (app, id) => new ReservationView(app, id)],
  [/^#\/tickets$/, (app) => new TicketsView(app)],
  [/^/, (app) => new ConcertsView(app)],
];

const app = {
  view: null,

  go(hash) {
    if (location.hash === hash) this.reload();
    else location.hash = hash;
  },

  reload() {
    this.view?.close();
    const [pattern, make] = ROUTES.find(([route]) => route.test(location.hash));
    this.view = make(this, ...pattern.exec(location.hash).slice(1));
    put(document.getElementById("page"), this.view.node);
    document.body.classList.toggle("selling", this.view instanceof SaleView);
    scrollTo(0, 0);
    this.view.node.querySelector("h1")?.focus();
  },

  fail(problem, node) {
    if (!problem.words) throw problem;
    put(node, h("section", { class: "card end" }, h("h1", { tabindex: "-1" }, t("failed")), h("p", { class: "lead", role: "alert" }, problem.words),
      h("button", { class: "button", type: "button", onclick: () => this.reload() }, t("again"))));
  },

  showWallet(balance) {
    const chip = document.getElementById("wallet");
    if (chip) chip.textContent = number(balance);
  },
};

/** Who one is, and how to become somebody else. */
function askWho(problem = null) {
  document.querySelector("dialog[open]")?.close();
  const field = h("textarea", { id: "token", rows: "4", required: true, autocomplete: "off", spellcheck: "false" });
  const wrong = h("p", { class: "notice bad", role: "alert", hidden: true });
  const submit = (event) => {
    event.preventDefault();
    if (!session.take(field.value)) {
      wrong.textContent = t("session.wrong");
      wrong.hidden = false;
      return;
    }
    dialog.close();
    showHead();
    app.reload();
  };
  const leave = () => {
    session.end();
    dialog.close();
    showHead();
    app.reload();
  };
  const dialog = h("dialog", { class: "sheet", onclose: () => dialog.remove() },
    h("form", { onsubmit: submit },
      h("h2", {}, t("session.title")),
      problem ? h("p", { class: "notice bad", role: "alert" }, t("problem.unauthenticated")) : null,
      session.user ? h("p", {}, t("session.user", { user: session.user })) : h("p", { class: "muted" }, t("session.text")),
      h("label", { for: "token" }, t("session.token")), field, wrong,
      h("div", { class: "actions" },
        session.user ? h("button", { class: "button quiet", type: "button", onclick: leave }, t("session.end")) : null,
        h("button", { class: "button quiet", type: "button", onclick: () => dialog.close() }, t("cancel")),
        h("button", { class: "button" }, t("session.begin")))));
  document.body.append(dialog);
  dialog.showModal();
}

function showHead() {
  const who = session.user
    ? [h("a", { class: "ghost", href: "#/tickets", id: "tickets", "aria-label": t("tickets") }, icon("ticket"), h("span", { class: "wide-only" }, t("tickets"))),
       h("button", { class: "ghost", type: "button", title: session.user, "aria-label": t("session.who", { user: session.user }), onclick: () => askWho() }, icon("wallet"), h("span", { id: "wallet", class: "tabular" }))]
    : h("button", { class: "ghost", type: "button", id: "begin", onclick: () => askWho() }, icon("person"), t("session.begin"));
  put(document.getElementById("head"),
    h("a", { class: "logo", href: "#/" }, icon("ticket"), "boxoffice"),
    h("nav", { "aria-label": t("nav") }, who, chooser()));
  if (session.user) get("/v1/wallet").then(({ balance }) => app.showWallet(balance)).catch(() => {});
}

session.begin();
session.needed = askWho;
await load();
document.title = t("title");
showHead();
addEventListener("hashchange", () => {
  // A link with a token in it may be opened in a tab that is here already.
  if (location.hash.includes("token=")) {
    session.begin();
    showHead();
  }
  app.reload();
});
addEventListener("offline", () => toast(t("problem.offline"), "bad"));
app.reload();
