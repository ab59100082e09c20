"""How a page looks and moves: light and plain, prints well, needs nothing from outside."""

from __future__ import annotations

__all__ = ["SCRIPT", "STYLE"]

STYLE = """
:root { --ink: #1d2630; --soft: #5c6873; --line: #e3e7eb; --wash: #f6f8f9; --mark: #0b6e99; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 36px 28px 60px; }
header { border-bottom: 1px solid var(--line); padding-bottom: 18px; margin-bottom: 8px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; font-weight: 650; letter-spacing: -0.01em; }
header p { margin: 0; color: var(--soft); }
h2 { font-size: 18px; margin: 38px 0 12px; font-weight: 650; }
h3 { font-size: 14.5px; margin: 22px 0 6px; font-weight: 600; }
nav { margin-top: 12px; font-size: 13.5px; }
nav a { color: var(--mark); text-decoration: none; margin-right: 16px; white-space: nowrap; }
nav a:hover { text-decoration: underline; }
code, pre { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: 6px; padding: 12px 14px; margin: 8px 0;
  overflow-x: auto; }
.good, .bad { display: inline-block; border-radius: 20px; padding: 1px 11px; font-size: 13px; font-weight: 600;
  vertical-align: 4px; margin-left: 8px; letter-spacing: 0; }
.good { background: #e3f3e6; color: #226b33; }
.bad { background: #fbe5e0; color: #a03319; }
dl.facts { display: flex; flex-wrap: wrap; gap: 14px 38px; margin: 18px 0 0; }
dt { color: var(--soft); font-size: 12.5px; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; margin: 8px 0; }
th { text-align: left; color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--line);
  padding: 5px 14px 5px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--line); padding: 5px 14px 5px 0; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.strong td { font-weight: 650; background: #f0f7fa; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 22px 30px; }
.grid3 { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 16px 24px; }
figure { margin: 10px 0; min-width: 0; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 4px; }
svg { display: block; width: 100%; height: auto; font: 11.5px system-ui, -apple-system, "Segoe UI", Roboto, Arial,
  sans-serif; fill: var(--ink); overflow: visible; }
svg .axis { stroke: #87919b; stroke-width: 1; }
svg .grid { stroke: #e9edf0; stroke-width: 1; }
svg text { fill: #46515c; }
svg .name { font-size: 12px; }
svg.chart { max-width: 560px; }
.legend { margin: 4px 0; font-size: 13px; color: var(--soft); }
.legend span { margin-right: 16px; white-space: nowrap; }
.legend i { display: inline-block; width: 16px; border-radius: 2px; margin-right: 6px; vertical-align: middle; }
.note { color: var(--soft); font-size: 13.5px; }
.controls { display: flex; gap: 12px; align-items: center; font-size: 13.5px; max-width: 560px; margin-top: 6px; }
.controls input { flex: 1; accent-color: var(--mark); }
.controls button { border: 1px solid var(--line); background: #fff; border-radius: 5px; width: 34px; height: 28px;
  cursor: pointer; color: var(--mark); font-size: 13px; }
.controls output { min-width: 120px; font-variant-numeric: tabular-nums; }
details summary { cursor: pointer; color: var(--mark); font-size: 13.5px; margin: 8px 0; }
footer { margin-top: 44px; padding-top: 14px; border-top: 1px solid var(--line); color: var(--soft); font-size: 13px; }
@media (max-width: 560px) { main { padding: 20px 14px; } .grid2, .grid3 { grid-template-columns: 1fr; } }
@media print { nav, .controls { display: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""

SCRIPT = """
for (const box of document.querySelectorAll("[data-frames]")) {
  const frames = JSON.parse(box.querySelector("script").textContent);
  const image = box.querySelector("image"), slider = box.querySelector("input");
  const said = box.querySelector("output"), button = box.querySelector("button");
  let timer = null;
  const show = i => {
    slider.value = i;
    image.setAttribute("href", frames[i].url);
    said.textContent = frames[i].title;
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "\\u25b6"; };
  slider.addEventListener("input", () => { stop(); show(+slider.value); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    button.textContent = "\\u275a\\u275a";
    timer = setInterval(() => show((+slider.value + 1) % frames.length), 260);
  });
}
"""
