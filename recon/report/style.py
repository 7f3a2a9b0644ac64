"""The page's own style sheet and script: nothing is loaded from anywhere else."""

CSS = """
:root { color-scheme: light dark;
  --bg: #f5f6f8; --card: #fff; --ink: #15181e; --soft: #596172; --line: #e2e5eb; --accent: #2563d9;
  --tint: #2563d914; --warn: #8a5300; --warn-bg: #fff4dc; --warn-line: #efd9a7; }
@media (prefers-color-scheme: dark) { :root {
  --bg: #0f1115; --card: #171a20; --ink: #e7e9ee; --soft: #98a1b1; --line: #292e38; --accent: #7ba6ff;
  --tint: #7ba6ff1f; --warn: #f0c674; --warn-bg: #2a2315; --warn-line: #4d4023; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 2rem; line-height: 1.2; margin: 4px 0 10px; letter-spacing: -.015em; text-wrap: balance; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0 0 4px; letter-spacing: -.005em; }
p { margin: 0 0 10px; max-width: 76ch; }
a { color: var(--accent); }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.kicker, .soft, small { color: var(--soft); }
.kicker { font-size: .85rem; margin: 0; }
.lead { font-size: 1.1rem; }
section { margin-top: 44px; }
h2 + .card, .card + .card { margin-top: 12px; }
.pair .card, .panels .card { margin-top: 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 18px 20px; }
.note { background: var(--warn-bg); border: 1px solid var(--warn-line); color: var(--warn);
  border-radius: 10px; padding: 10px 14px; margin: 10px 0; max-width: none; }
.hero { display: grid; gap: 16px; margin-top: 24px; }
@media (min-width: 860px) {
  .hero:has(figure) { grid-template-columns: fit-content(46%) minmax(0, 1fr); align-items: start; }
  .hero:has(figure) .tiles { grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); } }
figure { margin: 0; }
video { display: block; max-width: 100%; max-height: 400px; border-radius: 12px; }
figcaption { contain: inline-size; color: var(--soft); font-size: .88rem; margin-top: 6px; }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(158px, 1fr)); }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 13px 16px; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.2; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile b span { font-size: .95rem; font-weight: 500; color: var(--soft); letter-spacing: 0; }
.tile i { display: block; font-style: normal; font-size: .9rem; }
.tile small { display: block; font-size: .8rem; line-height: 1.35; margin-top: 2px; }
.tile.first { border-color: var(--accent);
  background: linear-gradient(var(--tint), var(--tint)), var(--card); }
.panels { display: grid; gap: 16px; margin-top: 14px; }
@media (min-width: 860px) { .panels.tall { grid-template-columns: 1fr 1fr; } }
.panel { padding: 12px 14px 14px; }
.panel header { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; margin-bottom: 8px; }
.panel header span { color: var(--soft); font-size: .9rem; }
.panel header .fig { margin-left: auto; font-variant-numeric: tabular-nums; }
.trio { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 8px; }
.shot { padding: 0; border: 0; background: none; color: inherit; font: inherit; cursor: zoom-in;
  text-align: left; align-self: start; }
.shot img { display: block; width: 100%; height: auto; border-radius: 6px; background: #000; }
.shot span { font-size: .82rem; color: var(--soft); }
button:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px; }
dialog { padding: 0; border: 0; border-radius: 10px; background: #000; color: #fff; max-width: 96vw;
  max-height: 96vh; }
dialog::backdrop { background: #000c; }
dialog img { display: block; max-width: 96vw; height: 86vh; object-fit: contain; cursor: pointer; }
dialog p { display: flex; gap: 16px; justify-content: space-between; align-items: center; margin: 0;
  padding: 8px 14px; max-width: none; font-size: .9rem; }
dialog button { font: inherit; color: inherit; background: #fff2; border: 0; border-radius: 6px;
  padding: 4px 12px; cursor: pointer; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .end { fill: var(--ink); font-weight: 650; font-size: 13px; }
svg .grid { stroke: var(--line); }
svg .line { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
svg .area { fill: var(--tint); }
svg .dot { fill: var(--card); stroke: var(--accent); stroke-width: 1.8; }
svg .reach { fill: transparent; }
svg .point:hover .dot { fill: var(--accent); }
.narrow { display: none; }
.marks { display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 10px 0 0; padding: 0; list-style: none;
  font-size: .92rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px 6px 0; text-align: left; border-bottom: 1px solid var(--line); font-weight: 400;
  vertical-align: top; }
tr:last-child > * { border-bottom: 0; }
thead th { color: var(--soft); font-size: .85rem; }
thead button { all: unset; cursor: pointer; }
thead button:hover { color: var(--ink); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.sortable tr > :not(:first-child) { width: 1%; white-space: nowrap; padding-right: 36px; }
.mean > * { font-weight: 650; }
.bar { display: block; width: 100%; height: 8px; margin-top: 8px; border-radius: 4px;
  background: linear-gradient(to right, var(--accent) calc(100% * var(--share)), var(--line) 0); }
.place { display: inline-block; width: 96px; height: 10px; margin-left: 12px; background:
    radial-gradient(circle at calc(5px + (100% - 10px) * var(--share)) 50%,
      var(--accent) 4px, transparent 5px),
    linear-gradient(var(--line), var(--line)) center / 100% 2px no-repeat; }
.stages td { white-space: nowrap; }
.stages td:last-child { width: 55%; }
.facts th { color: var(--soft); width: 24%; min-width: 6em; overflow-wrap: break-word; }
.pair { display: grid; gap: 16px; }
@media (min-width: 860px) { .pair { grid-template-columns: 1fr 1fr; } }
.pair h2 { margin-bottom: 8px; }
details > summary { cursor: pointer; }
details + details { margin-top: 8px; }
details .scroll, details p, details dl { margin-top: 8px; }
dl { margin: 0; } dt { font-weight: 650; } dd { margin: 0 0 10px; max-width: 76ch; }
footer { margin-top: 44px; color: var(--soft); font-size: .88rem; }
@media (max-width: 600px) {
  main { padding: 24px 14px 40px; } h1 { font-size: 1.55rem; } section { margin-top: 34px; }
  .card { padding: 14px; } .wide { display: none; } .narrow { display: block; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px; } .tile { padding: 10px 12px; }
  .tile b { font-size: 1.3rem; } .place { width: 44px; } th, td { padding-right: 8px; }
  .sortable tr > :not(:first-child) { padding-right: 14px; }
  .panels:not(.tall) .trio { grid-template-columns: 1fr 1fr; }
  .panels:not(.tall) .panel { position: relative; }
  .panels:not(.tall) .fig { position: absolute; bottom: 44px; right: 14px; width: calc(50% - 20px); }
  .stages td:last-child { width: 34%; } dialog img { height: auto; max-height: 80vh; } }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } video { display: none; } }
"""

SCRIPT = """
for (const video of document.querySelectorAll('video'))
  video.addEventListener('error', () => video.closest('figure').remove());

for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    const value = row => row.cells[column].dataset.v;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === '' || y === '') return (x === '') - (y === '');
      return (up ? 1 : -1) * (column ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    };
    heads.forEach(each => each.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }));
}

const zoom = document.querySelector('dialog');
if (zoom) {
  const image = zoom.querySelector('img'), caption = zoom.querySelector('span');
  let shots = [], at = 0;
  const show = place => {
    at = (place + shots.length) % shots.length;
    image.src = shots[at].querySelector('img').src;
    image.alt = caption.textContent = shots[at].querySelector('img').alt;
  };
  for (const shot of document.querySelectorAll('.shot'))
    shot.addEventListener('click', () => {
      shots = [...shot.parentElement.children];
      show(shots.indexOf(shot));
      zoom.showModal();
    });
  image.addEventListener('click', () => show(at === 0 ? 1 : 0));
  zoom.querySelector('button').addEventListener('click', () => zoom.close());
  zoom.addEventListener('click', event => { if (event.target === zoom) zoom.close(); });
  zoom.addEventListener('keydown', event => {
    if (event.key === 'ArrowRight') show(at + 1);
    if (event.key === 'ArrowLeft') show(at - 1);
  });
}
"""
