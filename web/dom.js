// Small things that every page needs: elements, messages, dialogs.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Properties that begin with "on" are listeners; null and false are left out. */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An element of a picture. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Puts other children into an element. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const ICONS = {
  back: "M15 5l-7 7 7 7",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  person: "M12 12a4 4 0 100-8 4 4 0 000 8zM4.5 20a7.5 7.5 0 0115 0",
  ticket: "M4 7h16v3.5a1.5 1.5 0 000 3V17H4v-3.5a1.5 1.5 0 000-3V7zM14 7v10",
  wallet: "M4 7h15v12H4zM4 7l11-3v3M15 13h.5",
  clock: "M12 21a9 9 0 100-18 9 9 0 000 18zM12 7.5V12l3 2",
};

/** A drawing beside a word; never the only thing that says something. */
export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** Says something for a while, and to screen readers at once. */
export function toast(text, kind = "info", action = null) {
  const box = document.getElementById("toasts");
  const message = h("div", { class: `toast ${kind}` }, h("p", {}, text));
  const close = () => message.remove();
  if (action) {
    const run = () => {
      close();
      action.run();
    };
    message.append(h("button", { class: "button small", type: "button", onclick: run }, action.label));
  }
  message.append(h("button", { class: "ghost round", type: "button", "aria-label": "✕", onclick: close }, icon("close")));
  box.append(message);
  while (box.children.length > 3) box.firstChild.remove();
  setTimeout(close, action ? 20000 : 7000);
}

/** Asks; true if the answer is yes. */
export function confirm(title, text, yes, no) {
  return new Promise((resolve) => {
    const answer = (value) => () => {
      dialog.close();
      resolve(value);
    };
    const dialog = h("dialog", { class: "sheet", oncancel: () => resolve(false), onclose: () => dialog.remove() },
      h("h2", {}, title),
      h("p", {}, text),
      h("div", { class: "actions" },
        h("button", { class: "button quiet", type: "button", onclick: answer(false) }, no),
        h("button", { class: "button", type: "button", onclick: answer(true) }, yes)));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Calls `tick` now and every so often until it is stopped, and at once when the page is looked at again. */
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
