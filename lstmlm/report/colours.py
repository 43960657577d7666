"""A text coloured by surprisal: for a terminal, and as a page of HTML.

The colour says how many bits a piece takes, on one scale for all texts and models; a line is coloured by its mean per token.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from string import Template

from rich.color import ColorSystem
from rich.style import Style

from lstmlm.report.formatting import visible
from lstmlm.surprisal import Surprisal

RAMP = ("", "#677b94", "#6d75a6", "#826aaf", "#9d5aaa", "#b94793", "#d12f69", "#e10d1c")
"""Of the text; the first is the terminal's own. From grey-blue to red at lightness 0.575 in OKLCH (Ottosson 2020), where
each has a contrast of at least 4.2 both to black and to white."""
BITS_PER_COLOUR = 2
FULL_BITS = BITS_PER_COLOUR * len(RAMP)
"""As unexpected as one of 65,536."""
_MARKS = str.maketrans(" \n\t", "␣↵⇥")


def colour(unit: Surprisal, per: str) -> str:
    """The colour of `RAMP` for a piece: one for every two bits."""
    return RAMP[min(int(_bits(unit, per) / BITS_PER_COLOUR), len(RAMP) - 1)]


def ansi(text: str, units: Iterable[Surprisal], per: str, *, coloured: bool) -> Iterator[str]:
    """`text` with escape sequences, unknown words underlined; without colours, each piece is followed by its `[bits]`."""
    for piece, unit in _pieces(text, units):
        shown = visible(piece)
        if unit is None or not shown.strip():
            yield shown
        elif not coloured:
            yield f"{shown}[{_bits(unit, per):.0f}]"
        else:
            yield _style(colour(unit, per), unit.unknown).render(shown, color_system=ColorSystem.EIGHT_BIT)


@cache
def _style(colour: str, unknown: bool) -> Style:
    return Style(color=colour or None, underline=unknown)


def page(text: str, units: Sequence[Surprisal], per: str, *, name: str, model: str) -> str:
    """One self-contained HTML file: the text with a legend, the figures of each piece where the mouse rests."""
    drawn = []
    for piece, unit in _pieces(text, units):
        shown = html.escape(visible(piece))
        if unit is not None and piece:
            shown = marked(shown, _bits(unit, per), _figures(unit), unknown=unit.unknown, end=piece == "\n")
        drawn.append(shown)
    bits = sum(unit.bits for unit in units)
    return _PAGE.substitute(
        name=html.escape(visible(name)),
        model=html.escape(visible(model)),
        summary=f"{len(units):,} {per}s, {bits:,.1f} bits together" if len(units) != 1 else f"1 {per}, {bits:,.1f} bits",
        style=STYLE,
        legend=legend("token" if per == "line" else per, unknown=any(unit.unknown for unit in units)),
        text="".join(drawn),
    )


def marked(shown: str, bits: float, figures: str, *, unknown: bool, end: bool = False) -> str:
    """A piece of HTML on a background of its colour, with its figures where the mouse rests; drawn by `STYLE`."""
    classes = [name for name, is_so in (("unknown", unknown), ("end", end)) if is_so]
    marks = f' class="{" ".join(classes)}"' if classes else ""
    return f'<span style="--heat:{min(bits / FULL_BITS, 1.0):.2f}" title="{html.escape(figures)}"{marks}>{shown}</span>'


def legend(per: str, *, unknown: bool) -> str:
    """The scale of the colours, as a paragraph of HTML."""
    underlined = '; <u class="unknown">unknown</u>' if unknown else ""
    return f'<p class="legend">0 <i></i> <span>{FULL_BITS} or more bits per {per}{underlined}</span></p>'


def _pieces(text: str, units: Iterable[Surprisal]) -> Iterator[tuple[str, Surprisal | None]]:
    """The whole text: units, and what stands between them."""
    place = 0
    for unit in units:
        yield text[place : unit.start], None
        yield unit.text, unit
        place = unit.end
    yield text[place:], None


def _bits(unit: Surprisal, per: str) -> float:
    return unit.bits / unit.tokens if per == "line" else unit.bits


def _figures(unit: Surprisal) -> str:
    tokens = "1 token" if unit.tokens == 1 else f"{unit.tokens:,} tokens"
    figures = f"{unit.bits:.2f} bits, {tokens}{', unknown' if unit.unknown else ''}"
    if (expected := unit.expectation) is None:
        return figures
    guess = f"{visible(expected.guess).translate(_MARKS)} {expected.probability:.0%}"
    return f"{figures}; rank {expected.rank:,}, expected {guess}, entropy {expected.entropy_bits:.2f} bits"


STYLE = """\
.legend { display: flex; gap: .6rem; align-items: center; margin-top: .75rem }
.legend i { flex: 0 1 12rem; height: .8rem; border-radius: .2rem;
  background: linear-gradient(to right, rgb(var(--hot) / 0), rgb(var(--hot) / .7)) }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4 }
pre span { background: rgb(var(--hot) / calc(var(--heat) * .7)); border-radius: .15rem }
.unknown { text-decoration: underline dotted }
.end::before { content: "\u21b5"; color: var(--faint) }
"""
"""For a page that sets `--hot`, the red, green and blue of the most unexpected."""
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$name</title>
<style>
:root { color-scheme: light dark; --ink: #1c1c1e; --paper: #fdfdfc; --faint: #63636a; --hot: 225 45 30 }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --paper: #17181b; --faint: #a0a0a8; --hot: 235 55 40 } }
body { margin: 3rem auto; max-width: 46rem; padding: 0 1.25rem; color: var(--ink); background: var(--paper);
  font: 1.05rem/1.75 system-ui, sans-serif }
header { color: var(--faint); font-size: .9rem; line-height: 1.5 }
h1 { margin: 0; color: var(--ink); font-size: 1.15rem; overflow-wrap: anywhere }
p { margin: 0 }
pre { margin: 2rem 0 }
$style</style>
</head>
<body>
<header>
<h1>$name</h1>
<p>$summary; model $model</p>
$legend
</header>
<pre dir="auto">
$text</pre>
</body>
</html>
""")
