"""The report page's own style sheet and script: nothing is loaded from anywhere else."""

#: Models that everybody knows have colours of their own; further ones get the last.
COLORED = ("persistence", "constant-velocity", "prior", "prior+residual", "network", "hybrid", "latent")
OTHERS = 5
_LIGHT = ("#7d8696", "#a78a4a", "#2563d9", "#0d9488", "#9333ea", "#dd4b1a", "#15803d", "#be185d", "#0e7490",
          "#4d7c0f", "#92400e", "#475569")  # fmt: skip
_DARK = ("#98a1b1", "#c9ae70", "#7ba6ff", "#2dd4bf", "#c084fc", "#ff8a5c", "#4ade80", "#f472b6", "#22d3ee",
         "#a3e635", "#f59e0b", "#94a3b8")  # fmt: skip


def _colors(values: tuple[str, ...]) -> str:
    return " ".join(f"--m{place}: {value};" for place, value in enumerate(values))


CSS = (
    ":root { "
    + _colors(_LIGHT)
    + " }\n@media (prefers-color-scheme: dark) { :root { "
    + _colors(_DARK)
    + " } }\n"
    + " ".join(f".m{place} {{ --c: var(--m{place}); }}" for place in range(len(_LIGHT)))
    + """
:root { color-scheme: light dark;
  --bg: #f5f6f8; --card: #fff; --ink: #15181e; --soft: #596172; --line: #e2e5eb; --accent: #2563d9;
  --tint: #2563d914; --good: #146c2e; --good-bg: #e4f5e8; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #0f1115; --card: #171a20; --ink: #e7e9ee; --soft: #98a1b1; --line: #292e38; --accent: #7ba6ff;
  --tint: #7ba6ff1f; --good: #7ee2a0; --good-bg: #14301d; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 4px 0 10px; letter-spacing: -.015em; text-wrap: balance; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 0 0 6px; display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; }
h3 small { font-weight: 400; }
p { margin: 0 0 10px; max-width: 84ch; }
a { color: var(--accent); }
.kicker, .soft, small { color: var(--soft); }
.kicker { font-size: .85rem; margin: 0; }
.lead { font-size: 1.1rem; }
section { margin-top: 44px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr));
  margin-top: 22px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 13px 16px; }
.tile b { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .9rem; }
.tile small { display: block; font-size: .8rem; line-height: 1.35; margin-top: 2px; }
.tile.first { border-color: var(--accent);
  background: linear-gradient(var(--tint), var(--tint)), var(--card); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 8px; margin: 8px 0 14px; }
.legend button { display: flex; gap: 8px; align-items: center; font: inherit; font-size: .9rem;
  cursor: pointer;
  color: var(--ink); background: var(--card); border: 1px solid var(--line); border-radius: 99px;
  padding: 2px 12px; }
.legend button::before, .key::before { content: ""; width: 14px; height: 4px; border-radius: 2px;
  background: var(--c); display: inline-block; }
.legend button[aria-pressed=false] { opacity: .45; text-decoration: line-through; }
.key::before { margin-right: 8px; vertical-align: middle; }
.grid2 { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .name { fill: var(--c); font-weight: 600; }
svg .grid { stroke: var(--line); }
svg .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
svg .band { fill: var(--c); opacity: .13; }
svg .dot { fill: var(--card); stroke: var(--c); stroke-width: 1.8; }
svg .lead { stroke: var(--c); opacity: .5; fill: none; }
svg .reach { fill: transparent; }
svg g:hover > .dot { fill: var(--c); }
svg .m0 .line, svg .m1 .line { stroke-dasharray: 5 4; stroke-width: 1.6; }
svg .m1 .line { stroke-dashoffset: 5; }
.off { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400;
  white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2), .plain th, .plain td { text-align: left; }
.plain td { white-space: normal; }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr.begins > * { border-top: 2px solid var(--line); }
thead th { color: var(--soft); font-size: .82rem; vertical-align: bottom; }
thead button { all: unset; cursor: pointer; }
thead button:hover { color: var(--ink); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
td small { display: block; color: var(--soft); font-size: .76rem; line-height: 1.2; }
tbody > tr > * { vertical-align: top; }
.sortable tr:not(.begins) > th[scope=row] { color: var(--soft); }
.best { color: var(--good); font-weight: 650; }
.best i { font-style: normal; background: var(--good-bg); border-radius: 5px; padding: 1px 6px;
  margin: -1px -6px; }
.bad { color: var(--bad); font-weight: 600; }
.tabs { display: flex; gap: 6px; flex-wrap: wrap; margin: 8px 0 12px; }
.tabs button { font: inherit; font-size: .9rem; color: var(--ink); background: var(--card); cursor: pointer;
  border: 1px solid var(--line); border-radius: 8px; padding: 3px 12px; }
.tabs button[aria-selected=true] { background: var(--accent); border-color: var(--accent); color: #fff; }
@media (prefers-color-scheme: dark) { .tabs button[aria-selected=true] { color: #0f1115; } }
figure { margin: 0; }
video { display: block; width: 100%; border-radius: 8px; background: #000; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: 6px; }
details > summary { cursor: pointer; }
details + details, .card + .card { margin-top: 12px; }
.grid2 > .card + .card { margin-top: 0; }
dl { margin: 0; columns: 2 420px; column-gap: 40px; } dt { font-weight: 650; } dd { margin: 0 0 10px; }
dt { break-after: avoid; } dd { break-inside: avoid; }
footer { margin-top: 44px; color: var(--soft); font-size: .88rem; }
button:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px; }
@media (max-width: 600px) { main { padding: 24px 14px 40px; } h1 { font-size: 1.55rem; } }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""
)

SCRIPT = """
for (const video of document.querySelectorAll('video'))
  video.addEventListener('error', () => video.closest('figure').remove());

for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    const value = row => row.cells[column].dataset.v ?? '';
    const number = column > 1;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      return (up ? 1 : -1) * (number ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    };
    heads.forEach(each => each.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    for (const row of table.tBodies[0].rows) row.classList.remove('begins');
  }));
}

for (const button of document.querySelectorAll('.legend button'))
  button.addEventListener('click', () => {
    const on = button.getAttribute('aria-pressed') === 'false';
    button.setAttribute('aria-pressed', on);
    for (const each of document.querySelectorAll(`svg [data-model="${button.dataset.model}"]`))
      each.classList.toggle('off', !on);
  });

for (const tabs of document.querySelectorAll('.tabs'))
  for (const button of tabs.children)
    button.addEventListener('click', () => {
      for (const each of tabs.children) {
        each.setAttribute('aria-selected', each === button);
        document.getElementById(each.dataset.of).classList.toggle('off', each !== button);
      }
    });
"""
