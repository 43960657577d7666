"""A report as one self-contained file of HTML: no script, nothing from the network, all text of corpora and models escaped.

It follows the reader's light or dark colours, prints, and fits a phone: what is too wide scrolls inside its own box.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate
from string import Template
from typing import Any

from lstmlm.report import colours, plots
from lstmlm.report.comparison import comparison_sections
from lstmlm.report.formatting import figure, interval, visible
from lstmlm.report.layout import Section, Table, at
from lstmlm.report.overview import protocol, text_name
from lstmlm.report.sections import sections


def page(result: Mapping[str, Any]) -> str:
    """The JSON object of `lstmlm eval --json`, drawn; the same bytes for the same object."""
    name, text = visible(at(result, "model", "path") or ""), text_name(result)
    heading = " on ".join(filter(None, (name, text))) or "A language model"
    return _document(heading, _headline(result), sections(result), result)


def comparison_page(comparison: Mapping[str, Any]) -> str:
    """What `lstmlm.comparison.compare` found, drawn likewise."""
    return _document(f"Models compared on {text_name(comparison)}", "", comparison_sections(comparison), comparison)


def _document(heading: str, headline: str, found: Sequence[Section], result: Mapping[str, Any]) -> str:
    return _PAGE.substitute(
        title=escape(heading if len(heading) <= _LONGEST_TITLE else heading[: _LONGEST_TITLE - 1] + "…"),
        heading=escape(heading),
        headline=headline,
        contents="\n".join(f'<li><a href="#{_anchor(part)}">{_shown(part.title)}</a></li>' for part in found),
        sections="\n".join(_section(part, result) for part in found),
        style=plots.STYLE + colours.STYLE + _STYLE,
    )


def _headline(result: Mapping[str, Any]) -> str:
    """The figures to quote, large, and how they came about."""
    unit = "token" if at(result, "model", "tokenizer") == "word" else "word"  # a word model is compared with its line ends
    value, per_byte = figure(at(result, "perplexity", unit)), figure(at(result, "bits_per_byte"), 4)
    drawn = []
    if value:
        more = _within(result, f"perplexity_{unit}", 2), _without_unknown(result, unit)
        drawn.append(_quoted(f"perplexity per {unit}", value, *more))
    if per_byte and at(result, "lossless"):
        drawn.append(_quoted("bits per byte", per_byte, _within(result, "bits_per_byte", 4)))
    elif per_byte:
        said = ", ".join(filter(None, (per_byte, _lost(result))))
        drawn.append(_quoted("bits per byte", "", said, _within(result, "bits_per_byte", 4)))
    return "\n".join([*([f"<dl>{''.join(drawn)}</dl>"] if drawn else []), *_paragraphs(protocol(result))])


def _quoted(label: str, value: str, *more: str) -> str:
    """A figure, large where there is a `value`, and what has to be said with it."""
    large = f'<dd class="large">{value}</dd>' if value else ""
    return f"<div><dt>{label}</dt>{large}{''.join(f'<dd>{said}</dd>' for said in more if said)}</div>"


def _within(result: Mapping[str, Any], key: str, digits: int) -> str:
    within = interval(at(result, "confidence95", key), digits)
    return f"95%: {within}" if within else ""


def _unknown(result: Mapping[str, Any]) -> str:
    """Which share of the tokens is unknown; empty where none is."""
    unknown, tokens = at(result, "tokens_unknown"), at(result, "tokens")
    return f"{100 * unknown / tokens:.3g}%" if unknown and tokens else ""


def _without_unknown(result: Mapping[str, Any], unit: str) -> str:
    """A perplexity with unknown tokens never stands alone; that without them is per token."""
    share, excluding = _unknown(result), figure(at(result, "oov", "excluding"))
    if not share:
        return ""
    if not excluding:
        return f"with {share} unknown"
    per_token = figure(at(result, "perplexity", "token"))
    both = f"per token {per_token}, " if unit != "token" and per_token else ""
    return f"{both}{excluding} without the {share} unknown"


def _lost(result: Mapping[str, Any]) -> str:
    """Why bits per byte say little."""
    if share := _unknown(result):
        return f"of a text of which {share} is unknown"
    return "of a text that the tokenizer does not keep whole" if at(result, "lossless") is False else ""


def _section(section: Section, result: Mapping[str, Any]) -> str:
    anchor = _anchor(section)
    drawing = _coloured(result) if section.plot == "coloured" else plots.plot(section.plot, result) if section.plot else ""
    tables = [_table(table, f"{anchor}-title") for table in section.tables]
    if drawing and tables:
        rows = accumulate((len(table.rows) for table in section.tables), initial=0)
        beside = sum(above < _ROWS_BESIDE for above, _ in zip(rows, tables, strict=False))
        first = "\n".join(tables[:beside])
        tables[:beside] = [f'<div class="beside">\n<figure>{drawing}</figure>\n<div>\n{first}\n</div>\n</div>']
    notes = [note for note in section.note.splitlines() if note not in protocol(result)]
    parts = [
        f'<section id="{anchor}">',
        f'<h2 id="{anchor}-title">{_shown(section.title)}</h2>',
        *_paragraphs(section.text.splitlines()),
        *(tables or [drawing]),
        *_paragraphs(notes, ' class="note"'),
        "</section>",
    ]
    return "\n".join(filter(None, parts))


def _table(table: Table, heading: str) -> str:
    """Named by its title, or by the section's heading."""
    head = "".join(
        f'<th scope="col" class="{kind}">{_shown(name)}</th>' if name else "<td></td>"
        for kind, name in zip(table.align, table.columns, strict=True)
    )
    firsts = [True] + [False] * (len(table.columns) - 1)
    body = [f"<tr>{''.join(map(_cell, table.align, row, firsts))}</tr>" for row in table.rows]
    name = f"<caption>{_shown(table.title)}</caption>" if table.title else ""
    label = "" if table.title else f' aria-labelledby="{heading}"'
    parts = [
        f'<div class="scroll" tabindex="0"><table{label}>{name}',
        f"<thead><tr>{head}</tr></thead>" if any(table.columns) else "",
        "<tbody>",
        *body,
        "</tbody></table></div>",
    ]
    return "\n".join(filter(None, parts))


def _cell(kind: str, text: str, first: bool) -> str:
    if first and kind == "l":
        return f'<th scope="row" class="l">{_shown(text)}</th>'
    return f'<td class="{kind}{" failed" * (kind == "l" and text == "FAILED")}">{_shown(text)}</td>'


def _coloured(result: Mapping[str, Any]) -> str:
    """A passage of the text, each of its words on a colour for its bits."""
    text, units = result["coloured"]["text"], at(result, "coloured", "units") or []
    drawn, place = [], 0
    for start, end, bits, unknown in units:
        drawn.append(_shown(text[place:start]))
        drawn.append(colours.marked(_shown(text[start:end]), bits, f"{bits:.2f} bits", unknown=unknown))
        place = end
    scale = colours.legend("word", unknown=any(unknown for *_, unknown in units))
    return f'{scale}\n<pre dir="auto">\n{"".join(drawn)}{_shown(text[place:])}</pre>'


def _paragraphs(texts: Sequence[str], kind: str = "") -> list[str]:
    return [f"<p{kind}>{_shown(text)}</p>" for text in texts if text]


def _anchor(section: Section) -> str:
    return re.sub(r"[^a-z0-9]+", "-", section.title.lower())


def _shown(text: str) -> str:
    return escape(visible(text))


_LONGEST_TITLE = 60
_ROWS_BESIDE = 4
"""A table stands beside a plot if fewer rows stand above it; the others follow below, as wide as the page."""
_STYLE = """\
:root { color-scheme: light dark; --ink: #1d1f23; --paper: #fdfdfc; --faint: #62656d; --rule: #e6e6e2; --accent: #1f5fa6;
  --alarm: #b3261e; --hot: 225 45 30 }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #16171a; --faint: #9d9fa8; --rule: #303238; --accent: #79b0f0;
    --alarm: #ff8a7a; --hot: 235 55 40 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 64rem; padding: 4rem 1.5rem 6rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere }
h1 { margin: 0 0 2.5rem; font-size: 1.2rem; font-weight: 600; line-height: 1.4 }
h2 { margin: 0 0 .5rem; font-size: 1.2rem; font-weight: 600; line-height: 1.3 }
p { margin: 0 0 .75rem; max-width: 44rem }
dl { display: flex; flex-wrap: wrap; gap: 2rem 4rem; margin: 0 0 1.75rem }
dt { color: var(--faint) }
dd { margin: 0; color: var(--faint); font-variant-numeric: tabular-nums }
.large { color: var(--accent); font-size: 3.25rem; font-weight: 300; line-height: 1.2; letter-spacing: -.02em }
header p, .note, caption { color: var(--faint); font-size: .9rem }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 2rem 0 0; padding: 1rem 0 0; list-style: none;
  border-top: 1px solid var(--rule); font-size: .9rem }
a { color: var(--accent); text-decoration: none }
a:hover, a:focus { text-decoration: underline }
section { margin-top: 4rem }
figure { margin: 1.5rem 0; max-width: 27rem }
@media (min-width: 64rem) {
  .beside { display: grid; grid-template-columns: 25rem minmax(0, 1fr); gap: 2rem; align-items: start }
  .beside :is(th, td) { padding-right: .9rem }
}
.scroll { overflow-x: auto; margin: 1.5rem 0 }
table { border-collapse: collapse; min-width: 50%; font-size: .9rem; font-variant-numeric: tabular-nums; line-height: 1.4 }
caption { padding-bottom: .4rem; text-align: left }
th, td { padding: .4rem 1.25rem .4rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule);
  white-space: pre-wrap; overflow-wrap: break-word; unicode-bidi: plaintext }
th:last-child, td:last-child { padding-right: 0 }
th { font-weight: 400; white-space: pre }
thead th { color: var(--faint) }
.r { text-align: right; white-space: nowrap }
td.l:not(:last-child) { white-space: nowrap }
td.l:last-child { min-width: 14rem }
td.t { min-width: 8rem; overflow-wrap: anywhere; font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .95em }
.failed { color: var(--alarm); font-weight: 600 }
#warnings { padding-left: 1.25rem; border-left: 3px solid var(--alarm) }
pre { margin: 1.5rem 0; padding: 1.25rem 1.5rem; border: 1px solid var(--rule); border-radius: .4rem; line-height: 1.9 }
@media (max-width: 30rem) {
  body { padding: 2rem 1.25rem 4rem }
  section { margin-top: 3rem }
  th { min-width: 7rem; white-space: pre-wrap }
  th.r { min-width: 0 }
  td.l:not(:last-child) { white-space: normal }
  td.l:last-child { min-width: 8rem }
  .plot { font-size: 13px }
}
@media print {
  :root { --paper: #fff }
  body { max-width: none; padding: 0; font-size: 10pt }
  nav { display: none }
  .scroll { overflow: visible }
  h2 { break-after: avoid }
  tr, figure, dl { break-inside: avoid }
  pre span { print-color-adjust: exact }
}
"""
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<h1>$heading</h1>
$headline
<nav aria-label="Contents">
<ul>
$contents
</ul>
</nav>
</header>
<main>
$sections
</main>
</body>
</html>
""")
