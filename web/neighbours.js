// Who sits beside whom in a row, told by where its seats stand: the same rule as on the server, in `seating_plan::neighbors`.

const REACH = 1.5;
const SMALL_TABLE = 1.25;
const LOOK = 512;

// Much faster than `Math.hypot`.
const distance = (a, b) => Math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2);

// Cuts a row, given as places, into chains `{ seats, isRing }` of which each seat is beside the next, in their order along it.
export function chainsOf(places) {
	const table = smallTable(places);
	if (table) return [table];
	const chains = walk(links(places));
	const order = chains.length === 1 ? chains[0].seats : chains.flatMap((chain) => chain.seats);
	if (order.some((seat, k) => k > 0 && seat < order[k - 1])) {
		const axis = longSide(places);
		const at = (seat) => places[seat][axis];
		for (const { seats, isRing } of chains) if (!isRing && at(seats[0]) > at(seats.at(-1))) seats.reverse();
		const least = ({ seats }) => seats.reduce((value, seat) => Math.min(value, at(seat)), Infinity);
		chains.sort((a, b) => least(a) - least(b));
	}
	return chains;
}

function smallTable(places) {
	const n = places.length;
	if (n < 3 || n > 4) return null;
	const middle = [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / n);
	const angle = (seat) => Math.atan2(places[seat][1] - middle[1], places[seat][0] - middle[0]);
	const seats = places.map((_, seat) => seat).sort((a, b) => angle(a) - angle(b));
	const sides = seats.map((seat, k) => distance(places[seat], places[seats[(k + 1) % n]]));
	const shortest = Math.min(...sides);
	if (!(shortest > 0 && Math.max(...sides) <= SMALL_TABLE * shortest)) return null;
	const first = seats.indexOf(0);
	const [, ...others] = [...seats.slice(first), ...seats.slice(0, first)];
	if (others[0] > others.at(-1)) others.reverse();
	return { seats: [0, ...others], isRing: true };
}

function links(places) {
	const linked = places.map(() => []);
	const hasRoom = (seat, other) => {
		const [neighbour, second] = linked[seat];
		if (neighbour === undefined || second !== undefined) return second === undefined;
		const [from, here, to] = [places[neighbour], places[seat], places[other]];
		const turn = (here[0] - from[0]) * (to[0] - here[0]) + (here[1] - from[1]) * (to[1] - here[1]);
		return turn > 0 || distance(from, here) === 0 || distance(here, to) === 0;
	};
	for (const [, a, b] of pairs(places)) {
		if (!hasRoom(a, b) || !hasRoom(b, a)) continue;
		linked[a].push(b);
		linked[b].push(a);
	}
	return linked;
}

// Of seats that are near enough, the nearest first, and of those as near the ones that are listed together.
function pairs(places) {
	const axis = longSide(places);
	const along = places.map((_, seat) => seat);
	along.sort((a, b) => places[a][axis] - places[b][axis] || places[a][1 - axis] - places[b][1 - axis] || a - b);
	const n = along.length;
	const at = along.map((seat) => places[seat]);
	const nearest = new Float64Array(n).fill(Infinity);
	for (let i = 0; i < n; i += 1) {
		const [here, position] = [at[i], at[i][axis]];
		let least = Infinity;
		for (let j = i - 1; j >= Math.max(0, i - LOOK) && position - at[j][axis] < least; j -= 1) least = Math.min(least, distance(here, at[j]));
		for (let j = i + 1; j < Math.min(n, i + LOOK + 1) && at[j][axis] - position < least; j += 1) least = Math.min(least, distance(here, at[j]));
		nearest[i] = least;
	}
	const found = [];
	for (let i = 0; i < n; i += 1) {
		const reach = REACH * nearest[i];
		for (let j = i + 1; j < Math.min(n, i + LOOK + 1) && at[j][axis] - at[i][axis] <= reach; j += 1) {
			const far = distance(at[i], at[j]);
			if (far <= Math.min(reach, REACH * nearest[j])) found.push([far, Math.min(along[i], along[j]), Math.max(along[i], along[j])]);
			if (nearest[i] === 0) break;
		}
	}
	return found.sort((a, b) => a[0] - b[0] || a[2] - a[1] - (b[2] - b[1]) || a[1] - b[1]);
}

function walk(linked) {
	const known = new Uint8Array(linked.length);
	const chains = [];
	for (const isRing of [false, true]) {
		linked.forEach((neighbours, first) => {
			if (known[first] || (neighbours.length === 2 && !isRing)) return;
			const seats = [];
			for (let seat = first; seat !== undefined; ) {
				seats.push(seat);
				known[seat] = 1;
				const [a, b] = linked[seat];
				const [less, more] = b < a ? [b, a] : [a, b];
				seat = less !== undefined && !known[less] ? less : more !== undefined && !known[more] ? more : undefined;
			}
			chains.push({ seats, isRing });
		});
	}
	return chains;
}

function longSide(places) {
	const spread = (axis) => {
		let [least, most] = [Infinity, -Infinity];
		for (const place of places) [least, most] = [Math.min(least, place[axis]), Math.max(most, place[axis])];
		return most - least;
	};
	return spread(1) > spread(0) ? 1 : 0;
}
