"""The page's only style sheet: light, dark and print. Its hash stands in the page's CSP."""

from __future__ import annotations

import base64
import hashlib

# Eight hues told apart under the common colour-vision deficiencies when neighbours also differ
# in lightness and in marker shape; the dark set is lighter, for the same contrast.
_LIGHT = ("#1f6fc4", "#cf5b12", "#178a63", "#8447b8", "#b8860b", "#c23b63", "#0e8291", "#5d6470")
_DARK = ("#6cb2f7", "#f59a55", "#4fca9b", "#c193ee", "#e0b94a", "#f18aa8", "#55c6d4", "#a9b3c0")


def _palette(colours: tuple[str, ...]) -> str:
    return "".join(f"--s{k}:{colour};" for k, colour in enumerate(colours))


_LIGHT_SCHEME = (
    "--page:#f4f6f8;--panel:#fff;--ink:#17202b;--muted:#566273;--rule:#dde3ea;--soft:#f1f4f7;"
    "--danger:#b3261e;--danger-soft:#fdecea;--warning:#8a5a00;--warning-soft:#fff4dc;"
    "--note:#1a5fa8;--note-soft:#e8f1fb;--good:#176b4d;--good-soft:#e6f5ee;" + _palette(_LIGHT)
)
_DARK_SCHEME = (
    "--page:#10151b;--panel:#181f28;--ink:#e7ecf2;--muted:#9daabb;--rule:#2d3846;--soft:#1f2833;"
    "--danger:#ff8f86;--danger-soft:#3a1d1d;--warning:#f0c060;--warning-soft:#352a14;"
    "--note:#8cc0f5;--note-soft:#182a3f;--good:#6fd3a8;--good-soft:#16302a;" + _palette(_DARK)
)

CSS = (
    ":root{color-scheme:light dark;" + _LIGHT_SCHEME + "}"
    "@media (prefers-color-scheme:dark){:root{"
    + _DARK_SCHEME
    + "}}"
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:19px;margin:0 0 10px;letter-spacing:-.005em}
h3{font-size:15px;margin:0 0 6px}
p{margin:0 0 10px}
.lead{color:var(--muted);margin:-6px 0 16px;max-width:78ch}
.meta{color:var(--muted);margin:0 0 20px;display:flex;flex-wrap:wrap;gap:6px 10px;align-items:center}
.chip{background:var(--panel);border:1px solid var(--rule);border-radius:999px;padding:1px 11px;font-size:13px;
color:var(--ink);overflow-wrap:anywhere}
.chip.danger{background:var(--danger-soft);color:var(--danger);border-color:var(--danger);font-weight:600}
.chip.note{background:var(--note-soft);color:var(--note);border-color:var(--note)}
section{background:var(--panel);border:1px solid var(--rule);border-radius:12px;padding:22px 24px;margin:0 0 18px}
.notice{border-radius:10px;padding:12px 16px 12px 18px;margin:0 0 10px;border:1px solid;border-left-width:6px}
.notice strong{display:block}
.notice p{margin:0;color:var(--ink)}
.notice.danger{background:var(--danger-soft);border-color:var(--danger);color:var(--danger)}
.notice.danger strong{font-size:18px}
.notice.warning{background:var(--warning-soft);border-color:var(--warning);color:var(--warning)}
.notice.note{background:var(--note-soft);border-color:var(--note);color:var(--note)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:18px 0}
.tile{background:var(--panel);border:1px solid var(--rule);border-radius:12px;padding:14px 18px}
.tile dt{color:var(--muted);font-size:13px}
.tile dd{margin:0;font-size:27px;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}
.tile dd.void{text-decoration:line-through;color:var(--danger)}
.tile dd.small{font-size:13px;font-weight:400;color:var(--muted);line-height:1.4}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:22px 28px;align-items:start}
.columns>*,.figures>*{min-width:0}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:22px 28px}
.figures.three{grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr))}
.figures>figure{display:grid;grid-template-rows:subgrid;grid-row:span 3;row-gap:0}
.figures .chart{max-width:520px}
.figures.three .chart{max-width:400px;min-width:280px}
*+.columns,*+.figures,figure+.scroll,.scroll+details,details+*,.scroll+.figures,.figures+.scroll,.scroll+p{margin-top:20px}
.promise{border-radius:10px;padding:14px 18px;border:1px solid var(--rule);background:var(--soft)}
.promise.yes{background:var(--good-soft);border-color:var(--good)}
.promise.yes h3{color:var(--good)}
.promise ul{margin:0;padding-left:18px}
.promise li{margin:0 0 6px}
figure{margin:0;break-inside:avoid}
figcaption{color:var(--muted);font-size:13px;margin-top:6px}
.scroll{overflow-x:auto;overflow-y:hidden}
sup{line-height:0}
.chart{display:block;width:100%;height:auto;min-width:340px}
.chart.wide{min-width:720px}
.chart text{font-size:12px;fill:var(--ink)}
.chart text.tick,.chart text.title{fill:var(--muted)}
.chart text.strong{font-weight:650}
.chart text.count{font-size:14px;font-weight:650;font-variant-numeric:tabular-nums}
.chart text.value{font-size:11px;fill:var(--c);font-variant-numeric:tabular-nums}
.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}
.s4{--c:var(--s4)}.s5{--c:var(--s5)}.s6{--c:var(--s6)}.s7{--c:var(--s7)}
.grid{stroke:var(--rule);stroke-width:1}
.axis{stroke:var(--muted);stroke-width:1}
.reference{stroke:var(--muted);stroke-width:1;stroke-dasharray:4 4}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.line.crowd{stroke:var(--muted);stroke-width:1;opacity:.45}
.mark{fill:var(--c);stroke:var(--panel);stroke-width:1}
.mark.faint{opacity:.35}
.area{fill:var(--c);opacity:.1}
.ring{fill:var(--panel);stroke:var(--c);stroke-width:2.5}
.bar{fill:var(--c);opacity:.55}
.cell{fill:var(--s0)}
.stripe{fill:var(--soft)}
.whisker{stroke:var(--c);stroke-width:2;stroke-linecap:round}
.mean{stroke:var(--c);stroke-width:1.5;stroke-dasharray:5 4}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 8px;padding:0;font-size:13px}
.legend li{display:flex;align-items:center;gap:7px;overflow-wrap:anywhere}
.swatch{width:22px;height:12px;flex:none}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--muted);font-size:13px;padding:0 0 6px}
th,td{padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--muted);font-size:13px;white-space:nowrap}
tbody th{color:var(--ink);font-weight:500;font-size:14px;white-space:normal;min-width:8em}
td.number,th.number{text-align:right;white-space:nowrap}
tr>:last-child{padding-right:0}
tbody tr:last-child>*{border-bottom:0}
tr.strong>*,tbody tr.strong th{font-weight:700}
tbody th,td.text{overflow-wrap:break-word}
td.text{min-width:9em}
.faint{color:var(--muted)}
.bad{color:var(--danger);font-weight:600}
details{margin-top:14px}
summary{cursor:pointer;color:var(--muted)}
.pairs{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:18px}
.pairs.large{grid-template-columns:repeat(auto-fill,minmax(min(100%,640px),1fr))}
.quarters{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;margin:0 0 12px}
.quarters img{width:100%;border-radius:6px;background:#000;image-rendering:pixelated}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:8px}
.pair img{width:100%;border-radius:6px;border:1px solid var(--rule);background:#000;image-rendering:pixelated}
.pair span{font-size:12px;color:var(--muted)}
footer{color:var(--muted);font-size:13px;text-align:center}
@media print{
@page{margin:14mm}
:root{color-scheme:light;"""
    + _LIGHT_SCHEME
    + """--page:#fff}
body{font-size:11.5px}
main{max-width:none;padding:0}
section{padding:12px 14px}
section,.tile,.notice,tr,.promise{break-inside:avoid}
.columns,.figures{grid-template-columns:1fr 1fr;gap:12px}
.figures.three{grid-template-columns:1fr 1fr 1fr}
.tiles{grid-template-columns:repeat(4,1fr)}
.chart,.chart.wide{min-width:0}
.scroll{overflow:visible}
th,td,tbody th{font-size:10.5px;white-space:normal;min-width:0;padding:4px 8px 4px 0}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""
)


def content_security_policy() -> str:
    """Nothing may load or run: pictures from within the page, and this one style sheet by its hash."""
    digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
