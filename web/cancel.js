// A performance that is called off: asked twice, and how far it is.

import { get, newKey, post } from "./api.js";
import { button, confirm, every, h, labelled, open, put, toast } from "./dom.js";
import { moment, number, t } from "./i18n.js";

const LOOK_MS = 1000;

// Asks why, and then whether it is meant; `done` is called with how far it is.
export function callOff(option, done) {
	const reason = h("input#reason", { maxlength: 500 });
	const key = newKey();
	async function onsubmit() {
		dialog.close();
		const { sold, held } = option.counts;
		if (!(await confirm(t("off_sure"), t("off_sure_text", { sold, held }), t("off_yes"), t("off_no")))) return;
		try {
			done(await post(`/v1/options/${option.id}/cancellation`, reason.value.trim() ? { reason: reason.value.trim() } : {}, key));
		} catch (problem) {
			if (!problem.words) throw problem;
			toast(problem.words, "bad");
		}
	}
	const dialog = open(h("form", { onsubmit }, h("h2", t("off")), h("p", t("off_text")), labelled(t("off_reason"), reason),
		h("div.actions", button(".button.quiet", () => dialog.close(), t("off_no")), h("button.button.danger", t("off_next")))));
}

// Shows how far it is until all is done, and calls `over` then; returns how to stop.
export function followCancellation(option, node, over) {
	let stop = () => {};
	let isLooking = false;
	async function look() {
		if (isLooking) return;
		isLooking = true;
		try {
			const { reason, cancelled_at: at, done, total, owed } = await get(`/v1/options/${option.id}/cancellation`);
			const isOver = done === total && owed === 0;
			put(node, h("section.card.off", h("h2", t("off_begun", { time: moment(at) })), reason && h("p", reason),
				h("progress", { max: Math.max(1, total), value: total === 0 ? 1 : done, "aria-label": t("off") }),
				h("p#cancel-progress", { role: "status" }, t(isOver ? "off_over" : "off_progress", { done, total: number(total), owed }))));
			if (!isOver) return;
			stop();
			over();
		} catch (problem) {
			if (!problem.words) throw problem;
			if (problem.status === 404) stop();
		} finally {
			isLooking = false;
		}
	}
	stop = every(LOOK_MS, look);
	return stop;
}
