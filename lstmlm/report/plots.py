"""Plots of an evaluation as inline SVG, which needs no script and takes its colours from the page around it (`STYLE`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from lstmlm.report.formatting import letter
from lstmlm.report.layout import at

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 34, 44
"""Space around the area of the plot, for the labels."""
MOST_TICKS = 7
STYLE = """\
.plot { display: block; width: 100%; height: auto; font-size: 12px; font-variant-numeric: tabular-nums; fill: currentColor }
.plot .grid { stroke: var(--rule) }
.plot .axis { stroke: var(--faint) }
.plot .tick, .plot .label, .plot .second { fill: var(--faint) }
.plot .line { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round }
.plot .other { fill: none; stroke: var(--ink); stroke-width: 1.5; stroke-linejoin: round }
.plot .other1 { stroke-dasharray: 6 3 }
.plot .other2 { stroke-dasharray: 2 3 }
.plot .behind { fill: none; stroke: var(--faint); stroke-opacity: .55 }
.plot .ideal { stroke: var(--faint); stroke-dasharray: 2 4 }
.plot .dot, .plot .bar, .plot .first { fill: var(--accent) }
.plot .dot { stroke: var(--paper); stroke-width: 1.5 }
.plot .area { fill: var(--accent); fill-opacity: .1 }
.plot .shares { fill: var(--faint); fill-opacity: .25 }
"""
Point = tuple[float, float]
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """A range of values and its ticks, linear or logarithmic."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """How far `value` is on the way from `low`, 0, to `high`, 1."""
        low, high, value = (math.log(number) if self.logarithmic else number for number in (self.low, self.high, value))
        return (value - low) / (high - low)


@dataclass
class Drawing:
    """The area between two axes, and what was drawn on it."""

    x: Axis
    y: Axis
    parts: list[str] = field(default_factory=list)

    def place(self, point: Point) -> Point:
        """Where a point lies, in the units of the SVG, from its upper left corner."""
        right = LEFT + self.x.share(point[0]) * (WIDTH - LEFT - RIGHT)
        return right, HEIGHT - BOTTOM - self.y.share(point[1]) * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Iterable[Point], kind: str) -> None:
        """Through all points, in their order."""
        places = " ".join(f"{_number(x)},{_number(y)}" for x, y in map(self.place, points))
        self.parts.append(f'<polyline class="{kind}" points="{places}"/>')

    def dot(self, point: Point, said: str) -> None:
        """A point that says its figures where the mouse rests."""
        x, y = self.place(point)
        self.parts.append(
            f'<circle class="dot" cx="{_number(x)}" cy="{_number(y)}" r="4"><title>{escape(said)}</title></circle>'
        )

    def bar(self, left: float, right: float, top: float, kind: str, said: str) -> None:
        """From the x axis up to `top`."""
        (x, y), (end, foot) = self.place((left, top)), self.place((right, self.y.low))
        box = f'x="{_number(x)}" y="{_number(y)}" width="{_number(end - x)}" height="{_number(foot - y)}"'
        self.parts.append(f'<rect class="{kind}" {box}><title>{escape(said)}</title></rect>')

    def text(self, x: float, y: float, said: str, kind: str = "value", anchor: str = "middle") -> None:
        """At a place of the drawing."""
        self.parts.append(
            f'<text class="{kind}" x="{_number(x)}" y="{_number(y)}" text-anchor="{anchor}">{escape(said)}</text>'
        )

    def legend(self, first: str, second: str) -> None:
        """What the accented and the pale marks are, in the upper right corner, each in its colour."""
        spans = f'<tspan class="first">● {escape(first)}</tspan><tspan class="second" dx="12">■ {escape(second)}</tspan>'
        self.parts.append(f'<text x="{WIDTH - RIGHT}" y="14" text-anchor="end">{spans}</text>')

    def svg(self, title: str) -> str:
        """The whole, with grid, ticks and labels; `title` is for those who cannot see it."""
        frame = Drawing(self.x, self.y)
        for value, label in self.y.ticks:
            y = frame.place((self.x.low, value))[1]
            frame.parts.append(f'<path class="grid" d="M{LEFT} {_number(y)}H{WIDTH - RIGHT}"/>')
            frame.text(LEFT - 8, y + 4, label, "tick", "end")
        for value, label in self.x.ticks:
            frame.text(frame.place((value, self.y.low))[0], HEIGHT - BOTTOM + 17, label, "tick")
        frame.parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        frame.text(0, 14, self.y.label, "label", "start")
        frame.text(WIDTH - RIGHT, HEIGHT - 6, self.x.label, "label", "end")
        said = escape(title)
        head = f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}"><title>{said}</title>'
        return "\n".join([head, *frame.parts, *self.parts, "</svg>"])


def plot(name: str, result: Cell) -> str:
    """One of `PLOTS` as an `<svg>`; empty where the result has not the figures for it."""
    return PLOTS[name](result)


def _training(result: Cell) -> str:
    """Validation loss against time, and the loss of the steps behind it."""
    curve, steps = (
        [(row["seconds"], row["loss"]) for row in _rows(result, ("training", name), "seconds", "loss")]
        for name in ("curve", "steps")
    )
    if at(result, "training", "sampled"):
        steps = []  # no surprisals, as those of the validations are
    if len(curve) + len(steps) < 2:
        return ""
    end = max(seconds for seconds, _ in (*curve, *steps))
    unit, length = next((unit for unit in _UNITS if end >= 3 * unit[1]), _UNITS[-1])
    # the first steps, at ln(vocabulary), would leave no room for what follows
    top = max([loss for _, loss in curve] + [loss for seconds, loss in steps if seconds >= end / 20])
    shown = [point for point in steps if point[1] <= top]
    x = linear(f"{unit} of training", [0, end / length])
    drawing = Drawing(x, linear("nats per token", [loss for _, loss in (*curve, *shown)]))
    if shown:
        drawing.line([(seconds / length, loss) for seconds, loss in shown], "behind")
    if not curve:
        return drawing.svg("Loss of the training steps against time")
    drawing.line([(seconds / length, loss) for seconds, loss in curve], "line")
    for seconds, loss in curve:
        drawing.dot(
            (seconds / length, loss),
            f"{seconds:,.0f} s: {loss:.3f} nats per token, perplexity {_figure(math.exp(min(loss, 700)))}",
        )
    if shown:
        drawing.legend("validation", "training")
    best = min(loss for _, loss in curve)
    return drawing.svg(f"Validation loss against time: {len(curve)} points, the lowest {best:.3f} nats per token")


def _learning(comparison: Cell) -> str:
    """The validation losses of several models against time, a line for each run with its model's letter at the end."""
    curves = [curve for curve in at(comparison, "training", "curves") or [] if len(curve["points"]) > 1]
    if not curves or at(comparison, "training", "left_out"):
        return ""
    end = max(curve["points"][-1]["seconds"] for curve in curves)
    unit, length = next((unit for unit in _UNITS if end >= 3 * unit[1]), _UNITS[-1])
    losses = [point["loss"] for curve in curves for point in curve["points"]]
    drawing = Drawing(linear(f"{unit} of training", [0, end / length]), linear("nats per token", losses))
    for curve in curves:
        points = [(point["seconds"] / length, point["loss"]) for point in curve["points"]]
        drawing.line(points, "line" if curve["model"] == 0 else f"other other{(curve['model'] - 1) % 3}")
        x, y = drawing.place(points[-1])
        drawing.text(min(x + 8, WIDTH - 5), y - 5, letter(curve["model"]), "first" if curve["model"] == 0 else "value")
    return drawing.svg(f"Validation loss of {len(curves)} training runs against time")


def _position(result: Cell) -> str:
    """Perplexity by position in the document, in powers of two."""
    cells = _rows(result, ("breakdowns", "position"), "low", "tokens", "perplexity")
    if len(cells) < 2:
        return ""
    ends = [cell.get("high") or 2 * cell["low"] - 1 for cell in cells]
    octaves = range(math.ceil(math.log2(cells[0]["low"])), math.ceil(math.log2(ends[-1] + 1)))
    every = math.ceil(len(octaves) / MOST_TICKS)
    ticks = tuple((2.0**octave, _short(2**octave)) for octave in octaves[::every])
    x = Axis("tokens into the document", cells[0]["low"], ends[-1] + 1, ticks, logarithmic=True)
    drawing = Drawing(x, logarithmic("perplexity", [cell["perplexity"] for cell in cells]))
    points = [(math.sqrt(cell["low"] * (end + 1)), cell["perplexity"]) for cell, end in zip(cells, ends, strict=True)]
    drawing.line(points, "line")
    for point, cell, end in zip(points, cells, ends, strict=True):
        where = f"{cell['low']:,}" if end == cell["low"] else f"{cell['low']:,} to {end:,}"
        drawing.dot(point, f"token {where}: perplexity {_figure(point[1])}, {cell['tokens']:,} tokens")
    first, last = (_figure(cell["perplexity"]) for cell in (cells[0], cells[-1]))
    return drawing.svg(
        f"Perplexity by position in the document: {first} at its beginning, {last} from {cells[-1]['low']:,} on"
    )


def _frequency(result: Cell) -> str:
    """Perplexity by how often the token stands in the training text."""
    cells = _rows(result, ("breakdowns", "frequency"), "low", "perplexity")
    if not cells:
        return ""
    # from 1, which is what a token costs that was certain: so the height of a bar is in bits
    y = logarithmic("perplexity", [1.0, *(cell["perplexity"] for cell in cells)])
    ticks = tuple((number + 0.5, _bucket(cell["low"], cell.get("high"))) for number, cell in enumerate(cells))
    drawing = Drawing(Axis("times in the training text", 0, len(cells), ticks), y)
    for number, cell in enumerate(cells):
        share = f", {cell['share']:.1%} of all tokens" if _drawable(cell.get("share")) else ""
        said = f"{cell.get('name', '')}: perplexity {_figure(cell['perplexity'])}{share}"
        drawing.bar(number + 0.08, number + 0.92, cell["perplexity"], "bar", said)
        x, top = drawing.place((number + 0.5, cell["perplexity"]))
        drawing.text(x, top - 5, _figure(cell["perplexity"]))
    rare, common = (_figure(cell["perplexity"]) for cell in (cells[0], cells[-1]))
    return drawing.svg(
        f"Perplexity by frequency in the training text: {rare} for the rarest, {common} for the most frequent"
    )


def _bucket(low: int, high: int | None) -> str:
    """`unseen`, `10-99`, `1k-9k` for 1,000 to 9,999, `100k+`: narrower than a bar."""

    def brief(count: int) -> str:
        letter, unit = next(((letter, int(unit)) for letter, unit in reversed(_LETTERS) if count >= unit), ("", 1))
        return f"{count // unit}{letter}"

    return "unseen" if not low else f"{brief(low)}+" if high is None else f"{brief(low)}-{brief(high)}"


def _reliability(result: Cell) -> str:
    """How often the likeliest token is right, against its probability; the tokens' shares behind."""
    bins = _rows(result, ("calibration", "bins"), "low", "high", "tokens", "confidence", "accuracy")
    total = sum(cell["tokens"] for cell in bins)
    if not total:
        return ""
    drawing = Drawing(linear("probability of the likeliest token", [0, 1]), linear("share right", [0, 1]))
    for cell in bins:
        share = cell["tokens"] / total
        drawing.bar(cell["low"] + 0.004, cell["high"] - 0.004, share, "shares", f"{share:.1%} of all tokens")
    drawing.line([(0, 0), (1, 1)], "ideal")
    drawing.line([(cell["confidence"], cell["accuracy"]) for cell in bins], "line")
    for cell in bins:
        said = f"expected {cell['confidence']:.1%}, right {cell['accuracy']:.1%} of {cell['tokens']:,} tokens"
        drawing.dot((cell["confidence"], cell["accuracy"]), said)
    drawing.legend("right", "share of the tokens")
    return drawing.svg("Reliability diagram: how often the likeliest token is right, against its probability")


def _roc(result: Cell) -> str:
    """The ROC curve of the model's confidence that its first guess is right."""
    points = [(x, y) for x, y in at(result, "classification", "roc") or [] if _drawable(x) and _drawable(y)]
    if len(points) < 2:
        return ""
    drawing = Drawing(linear("false positive rate", [0, 1]), linear("true positive rate", [0, 1]))
    drawing.line([*points, (points[-1][0], 0), (points[0][0], 0)], "area")
    drawing.line([(0, 0), (1, 1)], "ideal")
    drawing.line(points, "line")
    area = at(result, "classification", "auc")
    said = f"area {area:.3f}" if _drawable(area) else ""
    drawing.text(*drawing.place((0.62, 0.3)), said)
    return drawing.svg(f"ROC curve of the confidence that the first guess is right{': ' * bool(said)}{said}")


PLOTS: Mapping[str, Callable[[Cell], str]] = {
    "learning": _learning,
    "training": _training,
    "position": _position,
    "frequency": _frequency,
    "reliability": _reliability,
    "roc": _roc,
}
_LETTERS = (("k", 1e3), ("M", 1e6), ("G", 1e9))
_EVERY = (1, 2, 3, 5, 10)
"""Powers of ten from one tick to the next."""
_FLAT = 1.1
"""Values that differ by less than this factor need no ticks of their own."""
_UNITS = (("hours", 3600), ("minutes", 60), ("seconds", 1))


def linear(label: str, values: Sequence[float]) -> Axis:
    """From the least to the greatest of `values`, rounded to ticks at multiples of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / (MOST_TICKS - 2)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    numbers = range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    ticks = tuple((number * step, _short(number * step)) for number in numbers)
    return Axis(label, ticks[0][0], ticks[-1][0], ticks)


def logarithmic(label: str, values: Sequence[float]) -> Axis:
    """The range of `values`, rounded to ticks at 1, 2 and 5 times the powers of ten, or fewer of them.

    Where only two of these are left, the ticks are those of a linear axis, but not so that next to nothing fills the plot.
    """
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)) - _EVERY[-1], math.ceil(math.log10(high)) + _EVERY[-1] + 1)
    ticks: list[float] = []
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), *(((1,), every) for every in _EVERY)):
        grid = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
        first = max(tick for tick in grid if tick <= low * (1 + 1e-9))
        last = min(tick for tick in grid if tick >= high * (1 - 1e-9) and tick > first)
        ticks = [tick for tick in grid if first <= tick <= last]
        if len(ticks) <= MOST_TICKS:
            break
    if len(ticks) < 3 and high > _FLAT * low:
        return replace(linear(label, values), logarithmic=True)
    return Axis(label, ticks[0], ticks[-1], tuple((tick, _short(tick)) for tick in ticks), logarithmic=True)


def _rows(result: Cell, path: tuple[str, ...], *figures: str) -> list[Cell]:
    """The rows of a table that have all `figures`."""
    return [row for row in at(result, *path) or [] if all(_drawable(row.get(figure)) for figure in figures)]


def _drawable(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e100


def _figure(value: float) -> str:
    """Three digits, or all before the point: `4.21`, `89.2`, `1,234`, `1.2M`"""
    if value >= 1e5:
        return _short(float(f"{value:.2g}"))
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _short(value: float) -> str:
    """`0.2`, `4,096`, `20k`, `1.5M`"""
    if abs(value) < 1e4:
        return f"{value:,.6g}"
    letter, unit = next(((letter, unit) for letter, unit in _LETTERS if abs(value) < 1e3 * unit), ("", 0.0))
    return f"{value / unit:.{1 if value < 10 * unit and value % unit else 0}f}{letter}" if unit else f"{value:.0e}"


def _number(value: float) -> str:
    """Of a place; a hundredth of a unit is finer than any screen."""
    return f"{round(value, 2) + 0.0:.6g}"
