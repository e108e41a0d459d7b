// How `<boxoffice-seats>` looks: a text, since a site's policy may forbid styles in a page, and not those that a script makes.

export default `
:host { display: block; height: 40rem; color-scheme: light dark; text-align: start;
	--card: var(--boxoffice-background, light-dark(#fffefc, #1a1f26));
	--ink: var(--boxoffice-text, light-dark(#1b1f24, #edf0f3));
	--accent: var(--boxoffice-accent, light-dark(#0d5c75, #62c3dd));
	--muted: color-mix(in srgb, var(--ink) 72%, var(--card));
	--well: color-mix(in srgb, var(--ink) 7%, var(--card));
	--line: 1px solid color-mix(in srgb, var(--ink) 16%, var(--card));
	--soft: color-mix(in srgb, var(--accent) 13%, var(--card));
	--round: var(--boxoffice-radius, 12px);
	font: 16px/1.5 var(--boxoffice-font, system-ui, -apple-system, "Segoe UI", "Apple SD Gothic Neo", "Noto Sans KR", "Malgun Gothic", NanumGothic, sans-serif); }
:host([theme="light"]) { color-scheme: light; }
:host([theme="dark"]) { color-scheme: dark; }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
:lang(ko) { word-break: keep-all; }
p, ul, h2 { margin: 0; padding: 0; }
ul { list-style: none; }
h2 { font-size: 1.05rem; line-height: 1.3; font-weight: 650; }
button, input, select { font: inherit; color: inherit; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.all { height: 100%; color: var(--ink); background: var(--card); border: var(--line); border-radius: var(--round); overflow: hidden; font-variant-numeric: tabular-nums; accent-color: var(--accent); }
.hall { height: 100%; display: grid; grid-template: minmax(0, 1fr) auto / minmax(0, 1fr) 23rem; }
.hall > .map { grid-row: 1 / 3; }
.panel { display: flex; flex-direction: column; gap: 1rem; min-height: 0; overflow-y: auto; padding: 1rem; border-inline-start: var(--line); }
.hall.flat { grid-template: minmax(0, 1fr) auto / minmax(0, 1fr); }
.sheet { display: flex; flex-direction: column; gap: 0.6rem; min-height: 0; max-height: 24rem; padding: 0.8rem 1rem; border-top: var(--line); border-inline-start: var(--line); background: var(--card); }
.sheet:not(:has(.more > :not(:empty), .cart > *)), .more > :empty { display: none; }
.more, .cart { display: flex; flex-direction: column; gap: 0.55rem; }
.more { min-height: 0; overflow-y: auto; }
.more:not(:has(> :not(:empty))) { display: none; }
.narrow .hall { display: flex; flex-direction: column; overflow-y: auto; }
.narrow .hall > .map { flex: none; height: 24rem; order: 0; }
.narrow .sheet { order: 1; flex: none; position: sticky; bottom: 0; z-index: 3; border-inline-start: 0; box-shadow: 0 -6px 24px rgb(0 0 0 / 10%); }
.narrow .panel { flex: none; border: 0; overflow: visible; }

.strong { font-weight: 620; }
.muted { color: var(--muted); }
.grow { flex: 1; min-width: 0; }
.price { font-weight: 600; white-space: nowrap; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.icon { width: 1.15em; height: 1.15em; flex: none; fill: none; stroke: currentcolor; stroke-width: 1.9; stroke-linecap: round; stroke-linejoin: round; vertical-align: -0.2em; }
.failed { display: flex; flex-direction: column; gap: 0.8rem; padding: 1rem; }
.loading { padding: 4rem 1rem; text-align: center; color: var(--muted); }
.button, .ghost, .check, .filters, .filter, .filter .name, .signs li, .counter, .chips li, .most { display: flex; align-items: center; }
.button { justify-content: center; gap: 0.45rem; min-height: 44px; padding: 0.5rem 1.1rem; border: 1px solid transparent; border-radius: calc(var(--round) * 0.8); background: var(--accent); color: var(--on-accent, #fff); font-weight: 620; cursor: pointer; }
.button:hover { filter: brightness(1.08); }
.button:disabled, .round:disabled { opacity: 0.45; cursor: default; filter: none; }
.button.quiet { background: transparent; border: var(--line); color: var(--ink); font-weight: 550; }
.button.small { min-height: 40px; padding: 0.25rem 0.85rem; font-size: 0.92rem; align-self: flex-start; }
.button.wide { width: 100%; }
.ghost { gap: 0.4rem; min-height: 40px; padding: 0.25rem 0.65rem; border: 0; border-radius: 9px; background: transparent; font-weight: 550; font-size: 0.94rem; white-space: nowrap; cursor: pointer; }
.ghost:hover { background: var(--well); }
.round { display: inline-grid; place-items: center; width: 40px; height: 40px; min-height: 0; padding: 0; border-radius: 50%; border: var(--line); background: var(--card); cursor: pointer; flex: none; }
.ghost.round { border: 0; width: 32px; height: 32px; background: transparent; }
.notice { display: flex; flex-direction: column; gap: 0.4rem; padding: 0.6rem 0.8rem; border-radius: calc(var(--round) * 0.8); background: light-dark(#fbe7e5, #40201f); color: light-dark(#6f1712, #ffd9d5); }
.notice.good { background: var(--soft); color: inherit; }
.told, .touched, .sum { display: flex; align-items: flex-start; gap: 0.6rem; }
.touched { padding: 0.5rem 0.4rem 0.5rem 0.8rem; border: var(--line); border-radius: calc(var(--round) * 0.8); }
.touched p + p { font-size: 0.92rem; }
.sum { justify-content: space-between; align-items: baseline; }
.chips { display: flex; gap: 0.4rem; flex-wrap: wrap; max-height: 8rem; overflow-y: auto; }
.narrow .chips { flex-wrap: nowrap; overflow: auto hidden; }
.chips li { gap: 0.1rem; padding-inline-start: 0.75rem; border-radius: 99px; background: var(--well); font-size: 0.88rem; white-space: nowrap; }

label { font-size: 0.88rem; font-weight: 580; color: var(--muted); }
input:not([type="checkbox"]), select { width: 100%; min-height: 44px; padding: 0.45rem 0.75rem; border: var(--line); border-radius: calc(var(--round) * 0.7); background: var(--card); }
input[type="checkbox"] { width: 20px; height: 20px; flex: none; margin: 0; }
.check { gap: 0.6rem; min-height: 40px; color: var(--ink); font-weight: 450; font-size: 0.95rem; }
.filters { justify-content: space-between; min-height: 40px; }
.filter { flex-wrap: wrap; gap: 0 0.5rem; width: 100%; min-height: 44px; margin: 0.1rem 0; padding: 0.3rem; border: 1px solid transparent; border-radius: calc(var(--round) * 0.7); background: none; text-align: start; cursor: pointer; }
.filter:hover { background: var(--well); }
.filter[aria-pressed="true"] { border-color: var(--accent); background: var(--soft); }
.filter .name { gap: 0.4rem; flex: 1; font-weight: 580; }
.filter .muted { font-size: 0.86rem; white-space: nowrap; }
.filter .price { margin-inline-start: auto; text-align: end; }
.most { gap: 0.8rem; margin-top: 0.4rem; }
.signs { display: flex; flex-wrap: wrap; gap: 0.35rem 1rem; margin-top: 0.7rem; padding-top: 0.8rem; border-top: var(--line); font-size: 0.86rem; color: var(--muted); }
.signs li { gap: 0.4rem; }
.sign { width: 20px; height: 20px; flex: none; }
.way { border: var(--line); border-radius: calc(var(--round) * 0.8); }
.way summary { padding: 0.75rem 1rem; font-weight: 600; cursor: pointer; }
.way form { display: grid; gap: 0.4rem; padding: 0 1rem 1rem; }
.rowlist { max-height: 18rem; overflow-y: auto; margin-top: 0.4rem; border-top: var(--line); }
.rowlist .check > :last-child { margin-inline-start: auto; }
.rowlist .muted { font-size: 0.84rem; }
.areas h2 { margin-bottom: 0.5rem; }
.area { display: flex; flex-wrap: wrap; align-items: center; gap: 0.6rem; padding: 0.7rem 0; border-top: var(--line); }
.area .grow { flex: 1 1 9rem; }
.counter { gap: 0.4rem; }
.counter input { width: 4rem; text-align: center; appearance: textfield; }
.counter input::-webkit-inner-spin-button { display: none; }

.map { position: relative; overflow: hidden; background: var(--boxoffice-background, light-dark(#fdfcfa, #171b21)); touch-action: none; user-select: none; }
.map canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.map > canvas { cursor: grab; }
.map > canvas:active { cursor: grabbing; }
.map > canvas:focus-visible { outline-offset: -3px; }
.moving { position: absolute; inset: 0; transform-origin: 0 0; }
.map .minimap { inset: 12px auto auto 12px; width: auto; height: auto; border-radius: 8px; background: color-mix(in srgb, var(--card) 88%, transparent); box-shadow: 0 1px 8px rgb(0 0 0 / 15%); cursor: pointer; }
.zoom { position: absolute; right: 12px; top: 12px; display: flex; flex-direction: column; gap: 8px; }
.opener { position: absolute; left: 12px; top: 12px; display: none; align-items: center; gap: 0.45rem; min-height: 44px; padding: 0.3rem 1rem; border: var(--line); border-radius: 99px; background: var(--card); font-weight: 580; cursor: pointer; }
.tip { position: absolute; z-index: 2; left: 0; top: 0; max-width: 17rem; padding: 0.5rem 0.8rem; border-radius: 10px; background: light-dark(#1f242a, #f3f5f7); color: light-dark(#fff, #14181d); font-size: 0.88rem; line-height: 1.4; pointer-events: none; }

@media (max-width: 860px) {
	:host { height: auto; }
	.all { overflow: clip; }
	.all .hall { overflow: visible; height: auto; }
	.opener { display: flex; }
	.map .minimap { top: 68px; }
	/* There a swipe is the page's. */
	.map:not(.open) { touch-action: pan-y; }
}
/* The map is all there is, but for the sheet. */
.all.opened { position: fixed; inset: 0; z-index: 2147483647; width: 100%; height: 100%; max-width: none; max-height: none; margin: 0; padding: 0; border: 0; border-radius: 0; overscroll-behavior: contain; }
.all.opened .hall { display: flex; flex-direction: column; height: 100%; }
.all.opened .hall > .map { flex: 1; height: auto; min-height: 0; }
.all.opened .panel { display: none; }
.all.opened .sheet { position: static; max-height: 55dvh; padding-bottom: max(0.8rem, env(safe-area-inset-bottom)); }

/* What colours a site has chosen; by the transition it is heard when it chooses others. */
.tones { position: absolute; width: 0; height: 0; overflow: hidden; visibility: hidden; }
.tones i { transition: color 1ms; }
.tones .available { color: var(--boxoffice-available, transparent); }
.tones .mine { color: var(--boxoffice-selected, transparent); }
.tones .held { color: var(--boxoffice-held, transparent); }
.tones .sold { color: var(--boxoffice-sold, transparent); }
.tones .paper { color: var(--boxoffice-background, transparent); }
.tones .ink { color: var(--boxoffice-text, transparent); }
.tones .accent { color: var(--accent); }
@media (forced-colors: active) { .button { border: 1px solid; } }
`;
