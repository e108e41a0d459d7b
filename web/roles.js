// What a role may do on the operator's page. The server decides; this only leaves out what it would refuse.

import { get, session } from "./api.js";

const MAY = {
	admin: ["run", "block", "hold", "hand_on", "give_back", "release", "extend", "look_back", "call_off"],
	box_office: ["block", "hold", "hand_on"],
	refunds: ["give_back"],
	viewer: ["look_back"],
};

let roles = [];

// Asks which ones the token has: only the server knows in which of its claims they are, and by what names.
export async function learnRoles() {
	roles = session.token ? ((await get("/v1/site")).roles ?? []) : [];
	return isOperator();
}

export const isOperator = () => roles.some((role) => role in MAY);

export const may = (what) => roles.some((role) => MAY[role]?.includes(what));
