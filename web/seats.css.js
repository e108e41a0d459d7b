// Where the hall stands in an element of its own: what a site may set, and what its page would have said.

export default `
:host { display: block; height: 40rem; color-scheme: light dark; text-align: start;
	--card: var(--boxoffice-background, light-dark(#fffefc, #1a1f26));
	--ink: var(--boxoffice-text, light-dark(#1b1f24, #edf0f3));
	--accent: var(--boxoffice-accent, light-dark(#0d5c75, #62c3dd));
	--muted: color-mix(in srgb, var(--ink) 72%, var(--card));
	--well: color-mix(in srgb, var(--ink) 7%, var(--card));
	--line: 1px solid color-mix(in srgb, var(--ink) 16%, var(--card));
	--accent-soft: color-mix(in srgb, var(--accent) 13%, var(--card));
	--round: var(--boxoffice-radius, 12px);
	--shadow: 0 1px 8px rgb(0 0 0 / 15%);
	--sheet: 24rem;
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
.all, .failed { display: flex; flex-direction: column; }
.all { height: 100%; color: var(--ink); background: var(--card); border: var(--line); border-radius: var(--round); overflow: hidden; font-variant-numeric: tabular-nums; accent-color: var(--accent); }
.all.slim .hall { overflow-y: auto; }

.strong { font-weight: 620; }
.muted { color: var(--muted); }
.grow { flex: 1; min-width: 0; }
.price { font-weight: 600; white-space: nowrap; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.icon { width: 1.15em; height: 1.15em; flex: none; fill: none; stroke: currentcolor; stroke-width: 1.9; stroke-linecap: round; stroke-linejoin: round; vertical-align: -0.2em; }
.failed { gap: 0.8rem; padding: 1rem; }
.loading { padding: 4rem 1rem; text-align: center; color: var(--muted); }
.button, .ghost, .check { display: flex; align-items: center; }
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
.notice { display: flex; flex-direction: column; gap: 0.4rem; padding: 0.6rem 0.8rem; border-radius: calc(var(--round) * 0.8); background: var(--accent-soft); }
.notice.bad { background: light-dark(#fbe7e5, #40201f); color: light-dark(#6f1712, #ffd9d5); }
label { font-size: 0.88rem; font-weight: 580; color: var(--muted); }
input:not([type="checkbox"]), select { width: 100%; min-height: 44px; padding: 0.45rem 0.75rem; border: var(--line); border-radius: calc(var(--round) * 0.7); background: var(--card); }
input[type="checkbox"] { width: 20px; height: 20px; flex: none; margin: 0; }
.check { gap: 0.6rem; min-height: 40px; color: var(--ink); font-weight: 450; font-size: 0.95rem; }

@media (max-width: 860px) {
	:host { height: auto; }
	.all { overflow: clip; }
	.all.slim .hall { overflow: visible; }
}
.all.opened { z-index: 2147483647; width: 100%; height: 100%; max-width: none; max-height: none; margin: 0; padding: 0; border: 0; border-radius: 0; overscroll-behavior: contain; }

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
