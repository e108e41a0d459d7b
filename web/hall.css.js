// How a hall looks: a text, since another site's policy may forbid styles in a page, and not those that a script makes.
// What its colours and controls are like is said by where it stands.

export default `
.hall { flex: 1; min-height: 0; display: grid; grid-template: minmax(0, 1fr) auto / minmax(0, 1fr) 23rem; }
.hall > .map { grid-row: 1 / 3; }
.panel, .sheet, .more, .zoom { display: flex; flex-direction: column; }
.panel { gap: 1rem; min-height: 0; overflow-y: auto; padding: 1.1rem; border-inline-start: var(--line); background: var(--card); }
.panel h2 { margin: 0; }
/* What was said, touched and chosen, and the button: at hand, and never under anything. */
.sheet { min-height: 0; max-height: var(--sheet, 62dvh); padding: 0.8rem 1.1rem max(0.8rem, env(safe-area-inset-bottom)); background: var(--card); border-top: var(--line); border-inline-start: var(--line); box-shadow: 0 -6px 24px rgb(30 25 15 / 8%); }
.sheet:not(:has(.more > :not(:empty, [hidden]), .cart > *)), .more > :empty { display: none; }
.more { gap: 0.55rem; min-height: 0; overflow-y: auto; }
.more:has(> :not(:empty, [hidden])) { padding-bottom: 0.6rem; }
.more .notice { padding: 0.6rem 0.8rem; }
.more > div > .notice + .notice { margin-top: 0.4rem; }
.told, .touched, .sum { display: flex; align-items: flex-start; gap: 0.6rem; }
.touched { padding: 0.55rem 0.4rem 0.55rem 0.8rem; border: var(--line); border-radius: calc(var(--round) * 0.8); }
.touched p + p { font-size: 0.92rem; }
.touched .is { display: grid; gap: 0.2rem; padding-top: 0.15rem; }
.touched .counter { margin-top: 0.5rem; }
.cart { flex: none; display: grid; gap: 0.55rem; }
.cart > p { text-align: center; }
.sum { justify-content: space-between; align-items: baseline; }
.sum strong { font-size: 1.15rem; }
.filters, .filter, .filter .name, .signs li, .counter, .chips li, .most, .area { display: flex; align-items: center; }
.chips { display: flex; flex-wrap: wrap; gap: 0.4rem; max-height: 8rem; overflow-y: auto; scrollbar-width: none; }
.chips li { gap: 0.1rem; padding-inline-start: 0.75rem; border-radius: 99px; background: var(--well); font-size: 0.88rem; white-space: nowrap; }
.filters { justify-content: space-between; min-height: 40px; }
.filter { flex-wrap: wrap; gap: 0 0.5rem; width: 100%; min-height: 44px; margin: 0.1rem 0; padding: 0.3rem; border: 1px solid transparent; border-radius: calc(var(--round) * 0.7); background: none; text-align: start; cursor: pointer; }
.filter:hover { background: var(--well); }
.filter[aria-pressed="true"] { border-color: var(--accent); background: var(--accent-soft); }
.filter .name { gap: 0.4rem; flex: 1; font-weight: 580; }
.filter .muted { font-size: 0.86rem; white-space: nowrap; }
.filter .price { min-width: 4rem; margin-inline-start: auto; text-align: end; }
.most { gap: 0.8rem; margin-top: 0.4rem; }
.signs { display: flex; flex-wrap: wrap; gap: 0.35rem 1rem; margin-top: 0.7rem; padding-top: 0.8rem; border-top: var(--line); font-size: 0.86rem; color: var(--muted); }
.signs li { gap: 0.4rem; }
.sign { width: 20px; height: 20px; flex: none; }
.way { border: var(--line); border-radius: calc(var(--round) * 0.85); }
.way summary { padding: 0.75rem 1rem; font-weight: 600; cursor: pointer; }
.way form { display: grid; gap: 0.4rem; padding: 0 1rem 1rem; }
.way .button { margin-top: 0.6rem; }
.counter { gap: 0.4rem; }
.counter input { width: 4rem; text-align: center; appearance: textfield; }
.counter input::-webkit-inner-spin-button { display: none; }
.rowlist { max-height: 20rem; overflow-y: auto; margin-top: 0.4rem; border-top: var(--line); }
.rowlist .check > :last-child { margin-inline-start: auto; }
.rowlist .muted { font-size: 0.84rem; }
.areas h2 { margin-bottom: 0.6rem; }
.area { flex-wrap: wrap; gap: 0.6rem; padding: 0.8rem 0; border-top: var(--line); }
.area .grow { flex: 1 1 9rem; }

.map { position: relative; overflow: hidden; background: var(--boxoffice-background, light-dark(#fdfcfa, #171b21)); touch-action: none; user-select: none; }
.map canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.map > canvas { cursor: grab; }
.map > canvas:active { cursor: grabbing; }
.map > canvas:focus-visible { outline-offset: -3px; }
.moving { position: absolute; inset: 0; transform-origin: 0 0; }
.map .minimap { inset: 12px auto auto 12px; width: auto; height: auto; border-radius: 8px; background: color-mix(in srgb, var(--card) 88%, transparent); box-shadow: var(--shadow); cursor: pointer; }
.zoom { position: absolute; right: 12px; top: 12px; gap: 8px; }
.zoom .round { box-shadow: var(--shadow); }
.opener { position: absolute; left: 12px; top: 12px; display: none; align-items: center; gap: 0.45rem; min-height: 44px; padding: 0.3rem 1rem; border: var(--line); border-radius: 99px; background: var(--card); font-weight: 580; box-shadow: var(--shadow); cursor: pointer; }
.tip { position: absolute; z-index: 2; left: 0; top: 0; max-width: 17rem; padding: 0.5rem 0.8rem; border-radius: 10px; background: light-dark(#1f242a, #f3f5f7); color: light-dark(#fff, #14181d); font-size: 0.88rem; line-height: 1.4; pointer-events: none; box-shadow: 0 6px 20px rgb(0 0 0 / 25%); }
@media (max-width: 860px) {
	.opener { display: flex; }
	.map .minimap { top: 68px; }
	/* There a swipe is the page's. */
	.map:not(.open) { touch-action: pan-y; }
}

.hall.flat { grid-template: auto auto 1fr / min(42rem, 100%); justify-content: center; overflow: auto; }
.flat > .panel { border: 0; background: none; overflow: visible; }
.flat > .sheet { border: var(--line); border-radius: var(--round); }
.slim .hall { display: flex; flex-direction: column; justify-content: flex-start; overflow: visible; }
.slim .hall > * { flex: none; }
.slim .hall > :first-child:not(.map, .panel) { margin: 0.7rem 1rem; background: var(--card); }
.slim .hall > .map { height: var(--map, 24rem); border-block: var(--line); }
.slim .panel { border: 0; background: none; overflow: visible; }
.slim .sheet { position: sticky; bottom: 0; z-index: 3; border-width: 1px 0 0; border-radius: 16px 16px 0 0; }
.slim .chips { flex-wrap: nowrap; overflow: auto hidden; }
/* The map is all there is, but for the sheet. */
.opened { position: fixed; inset: 0; z-index: 10; background: var(--card); }
.opened .hall { height: 100%; }
.opened .hall > .map { flex: 1; height: auto; min-height: 0; border: 0; }
.opened > :not(.hall), .opened .hall > :not(.map, .sheet) { display: none; }
.opened .sheet { position: static; max-height: 55dvh; border-radius: 0; }
`;
