// What a role may do on the operator's page. The server decides; this only leaves out what it would refuse.

import { session } from "./api.js";

const MAY = {
	admin: ["run", "block", "hold", "hand_on", "give_back", "release", "extend", "look_back", "call_off"],
	box_office: ["block", "hold", "hand_on"],
	refunds: ["give_back"],
	viewer: ["look_back"],
};

export const isOperator = () => session.role in MAY;

export const may = (what) => MAY[session.role]?.includes(what) ?? false;
