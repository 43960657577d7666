from __future__ import annotations

import copy
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import HOSTILE, coloured, full_result

from lstmlm.report import plots
from lstmlm.report.formatting import one_line, visible
from lstmlm.report.html import page
from lstmlm.report.plots import BOTTOM, HEIGHT, LEFT, PLOTS, RIGHT, TOP, WIDTH, linear, logarithmic, plot

DRAWN = [name for name in PLOTS if name != "learning"]
"""Of an evaluation; the other one is of a comparison."""

VOID = {"meta"}
FOREIGN = {"script", "link", "img", "iframe", "object", "embed", "form", "b"}
"""Elements that only a text can have brought in."""


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in its turn, and collects what stands between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.seen.append((tag, dict(attrs)))
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(f"a comment: {data}")

    handle_pi = unknown_decl = handle_comment


def parsed(html: str) -> Balanced:
    parser = Balanced()
    parser.feed(html)
    parser.close()
    assert not parser.open
    found = [tag for tag, _ in parser.seen]
    assert not FOREIGN & {*found}
    assert found.count("style") == 1
    return parser


def drawn(name: str, result: dict[str, Any]) -> ET.Element:
    return ET.fromstring(plot(name, result))


def points(svg: ET.Element, kind: str) -> list[tuple[float, float]]:
    """The places of the one line of a kind."""
    (line,) = (line for line in svg.iter("polyline") if line.get("class") == kind)
    return [(float(x), float(y)) for x, y in (place.split(",") for place in line.attrib["points"].split())]


def dots(svg: ET.Element) -> list[tuple[float, float]]:
    return [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in svg.iter("circle")]


# -- The page ---------------------------------------------------------------------------------------------------------------


def test_a_full_report_is_balanced_small_and_the_same_twice() -> None:
    html = page(full_result())
    parser = parsed(html)
    assert html == page(copy.deepcopy(full_result()))
    assert len(html.encode()) < 500_000
    identifiers = [attributes["id"] for _, attributes in parser.seen if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    links = {attributes["href"] for tag, attributes in parser.seen if tag == "a"}
    assert links
    assert links <= {f"#{identifier}" for identifier in identifiers}
    assert {attributes["aria-labelledby"] for _, attributes in parser.seen if "aria-labelledby" in attributes} <= set(
        identifiers
    )
    assert sum(tag == "svg" for tag, _ in parser.seen) == len(DRAWN)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    parser = parsed(page(full_result()))
    for _, attributes in parser.seen:
        assert not attributes.keys() & {"src", "srcset", "data", "action", "xlink:href", "background"}
        assert not [name for name in attributes if name.startswith("on")]
    html = page({})
    assert "url(" not in html
    assert "@import" not in html
    assert "http" not in html


def test_text_is_shown_as_it_is_and_cannot_act() -> None:
    """What the parser reads as text is the text, with its control characters spelled out."""
    html = page(full_result())
    shown = " ".join(parsed(html).texts)
    flat = re.sub(r"\s+", " ", "".join(parsed(html).texts))
    for text in HOSTILE:
        assert one_line(text) in shown
        assert " ".join(visible(text).split()) in flat
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u200e\u200f\u202a-\u202e]", html)


@given(st.text(st.characters(codec=None), max_size=40))
@settings(max_examples=25, deadline=None)
def test_no_text_breaks_the_page(text: str) -> None:
    result = full_result()
    result["model"]["path"] = result["cite"] = result["breakdowns"]["worst_tokens"][0]["token"] = text
    result["coloured"] = coloured(text)
    html = page(result)
    parsed(html)
    html.encode()


def test_the_headline_is_the_figure_to_quote() -> None:
    result = full_result()
    perplexity = '<dt>perplexity per token</dt><dd class="large">86.12</dd><dd>95%: 83.91 to 88.42</dd>'
    assert f"{perplexity}<dd>90.40 without the 2.63% unknown</dd>" in page(result)
    assert page(result).count("every token a target exactly once") == 1
    result["model"]["tokenizer"] = "bpe"
    result["confidence95"] = None
    assert (
        '<dt>perplexity per word</dt><dd class="large">93.34</dd><dd>per token 86.12, 90.40 without the 2.63% unknown</dd>'
    ) in page(result)
    result["tokens_unknown"] = 0
    assert '<dt>perplexity per word</dt><dd class="large">93.34</dd></div>' in page(result)
    assert " on the test split of wikitext-2/test.txt, corpora/" in page(result)


def test_bits_per_byte_are_large_only_where_no_text_is_lost() -> None:
    result, within = full_result(), "<dd>95%: 1.2486 to 1.2634</dd>"
    lost = "<dt>bits per byte</dt><dd>1.2564, of a text of which 2.63% is unknown</dd>"
    assert lost + within in page(result)
    result["tokens_unknown"] = 0
    assert "<dd>1.2564, of a text that the tokenizer does not keep whole</dd>" in page(result)
    result["lossless"] = True
    assert f'<dt>bits per byte</dt><dd class="large">1.2564</dd>{within}' in page(result)


def test_a_failed_check_is_marked() -> None:
    html = page(full_result())
    assert html.count('<td class="l failed">FAILED</td>') == 1


def test_the_coloured_text_is_the_text() -> None:
    result = full_result()
    result["coloured"] = {"text": "a <b>\nc\n", "units": [[0, 1, 4.0, False], [2, 5, 99.0, True]]}
    html = page(result)
    passage = re.search(r'<pre dir="auto">\n(.*?)</pre>', html, re.DOTALL)
    assert passage is not None
    assert passage[1] == (
        '<span style="--heat:0.25" title="4.00 bits">a</span> '
        '<span style="--heat:1.00" title="99.00 bits" class="unknown">&lt;b&gt;</span>\nc\n'
    )


def paths(value: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """Of every key."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value[:2]):
            yield from [(*before, key)] if isinstance(value, dict) else []
            yield from paths(part, *before, key)


PATHS = sorted(paths(full_result()), key=str)


@given(st.sets(st.sampled_from(PATHS), min_size=1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_is_missing_is_left_out(missing: set[tuple[str | int, ...]], null: bool) -> None:
    result = full_result()
    for *outer, key in sorted(missing, key=len, reverse=True):
        owner: Any = result
        for step in outer:
            owner = owner[step]
        if null and not any(isinstance(step, int) for step in outer):
            owner[key] = None
        else:
            del owner[key]
    parser = parsed(page(result))
    assert "None" not in "".join(parser.texts)


def test_a_section_without_its_figures_is_not_there() -> None:
    result = full_result()
    assert 'id="calibration"' in page(result)
    result["calibration"] = None
    assert 'id="calibration"' not in page(result)
    assert "<section" not in page({})
    parsed(page({}))


# -- Plots ------------------------------------------------------------------------------------------------------------------


def test_each_plot_says_what_it_shows() -> None:
    for name in DRAWN:
        svg = drawn(name, full_result())
        assert svg[0].tag == "title"
        assert svg.attrib["aria-label"] == svg[0].text
        assert svg.attrib["role"] == "img"


def test_marks_stay_inside_the_drawing() -> None:
    for name in DRAWN:
        svg = drawn(name, full_result())
        places = [(float(text.attrib["x"]), float(text.attrib["y"])) for text in svg.iter("text")] + dots(svg)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


def test_the_corners_of_the_roc_curve() -> None:
    result = {"classification": {"roc": [[0, 0], [0.25, 0.5], [1, 1]], "auc": 0.625}}
    svg = drawn("roc", result)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    middle = (LEFT + 0.25 * width, HEIGHT - BOTTOM - 0.5 * height)
    assert points(svg, "line") == [(LEFT, HEIGHT - BOTTOM), pytest.approx(middle, abs=0.01), (WIDTH - RIGHT, TOP)]
    assert points(svg, "area")[-2:] == [(WIDTH - RIGHT, HEIGHT - BOTTOM), (LEFT, HEIGHT - BOTTOM)]
    assert "area 0.625" in [text.text for text in svg.iter("text")]


def test_a_perfectly_calibrated_bin_lies_on_the_diagonal() -> None:
    bins = [{"low": k / 4, "high": (k + 1) / 4, "tokens": 10, "confidence": k / 4, "accuracy": k / 4} for k in (1, 2)]
    svg = drawn("reliability", {"calibration": {"bins": bins}})
    (left, low), (right, high) = points(svg, "ideal")
    for share, (x, y) in zip((0.25, 0.5), dots(svg), strict=True):
        assert x == pytest.approx(left + share * (right - left), abs=0.01)
        assert y == pytest.approx(low + share * (high - low), abs=0.01)
    shares = [float(bar.attrib["height"]) for bar in svg.iter("rect")]
    assert shares == pytest.approx([0.5 * (low - high)] * 2, abs=0.01)


def test_bars_are_as_high_as_their_bits() -> None:
    cells = [
        {"name": str(low), "low": low, "high": high, "tokens": 5, "share": 0.5, "perplexity": perplexity}
        for low, high, perplexity in ((0, 0, 10_000.0), (1, 9, 100.0), (10, None, 1.0))
    ]
    svg = drawn("frequency", {"breakdowns": {"frequency": cells}})
    unseen, rare, certain = (float(bar.attrib["height"]) for bar in svg.iter("rect"))
    assert unseen == pytest.approx(2 * rare, abs=0.02)
    assert certain == 0
    labels = [text.text for text in svg.iter("text")]
    assert {"10,000", "100", "1.00"} <= set(labels)


def test_each_bar_has_its_own_name_below_its_middle() -> None:
    """Also where the group of one before it has no tokens."""
    limits = ((0, 0), (10, 99), (1000, 9999), (100_000, None))
    cells = [{"name": "", "low": low, "high": high, "tokens": 5, "perplexity": 9.0} for low, high in limits]
    svg = drawn("frequency", {"breakdowns": {"frequency": cells}})
    bars = [float(bar.attrib["x"]) + float(bar.attrib["width"]) / 2 for bar in svg.iter("rect")]
    names = [text for text in svg.iter("text") if text.attrib["y"] == str(HEIGHT - BOTTOM + 17)]
    assert [text.text for text in names] == ["unseen", "10-99", "1k-9k", "100k+"]
    assert [float(text.attrib["x"]) for text in names] == pytest.approx(bars, abs=0.02)


def test_octaves_of_positions_are_equally_wide() -> None:
    cells = [
        {"low": 2**k, "high": 2 ** (k + 1) - 1 if k < 3 else None, "tokens": 5, "perplexity": 2.0 ** (8 - k)}
        for k in range(4)
    ]
    places = dots(drawn("position", {"breakdowns": {"position": cells}}))
    across = [(right[0] - left[0], right[1] - left[1]) for left, right in pairwise(places)]
    assert across == [pytest.approx(across[0], abs=0.02)] * 3
    assert across[0][0] == pytest.approx((WIDTH - LEFT - RIGHT) / 4, abs=0.02)
    assert across[0][1] > 0  # less perplexity is further down


def test_the_training_curve_has_time_from_zero_and_leaves_out_the_first_steps() -> None:
    curve = [{"seconds": seconds, "loss": loss} for seconds, loss in ((300, 5.0), (600, 4.0))]
    steps = [{"seconds": seconds, "loss": loss} for seconds, loss in ((1, 10.4), (300, 4.9), (600, 4.1))]
    svg = drawn("training", {"training": {"curve": curve, "steps": steps}})
    middle, end = dots(svg)
    assert middle[0] == pytest.approx((LEFT + end[0]) / 2, abs=0.01)
    assert middle[1] == TOP  # the highest loss that is shown
    assert end == (WIDTH - RIGHT, HEIGHT - BOTTOM)
    assert len(points(svg, "behind")) == 2
    assert "minutes of training" in [text.text for text in svg.iter("text")]
    said = [title.text for circle in svg.iter("circle") for title in circle]
    assert said[1] == "600 s: 4.000 nats per token, perplexity 54.6"
    sampled = drawn("training", {"training": {"curve": curve, "steps": steps, "sampled": True}})
    assert dots(sampled) == dots(svg)
    assert not [line for line in sampled.iter("polyline") if line.get("class") == "behind"]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("training", {"training": {"curve": [{"seconds": 1.0, "loss": 3.0}], "steps": []}}),
        ("training", {"training": {"curve": [{"seconds": 1.0, "loss": math.inf}, {"seconds": 2.0}], "steps": None}}),
        ("position", {"breakdowns": {"position": [{"low": 1, "high": 1, "tokens": 1, "perplexity": 3.0}]}}),
        ("frequency", {"breakdowns": {"frequency": [{"name": "unseen", "low": 0, "high": 0, "perplexity": None}]}}),
        (
            "reliability",
            {"calibration": {"bins": [{"low": 0, "high": 1, "tokens": 0, "confidence": None, "accuracy": None}]}},
        ),
        ("roc", {"classification": {"roc": [[0, 0]], "auc": None}}),
    ],
)
def test_too_little_to_draw_is_no_plot(name: str, result: dict[str, Any]) -> None:
    assert plot(name, result) == ""
    assert plot(name, {}) == ""


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=5), st.sampled_from([1e-6, 1.0, 1e6]))
def test_linear_ticks_are_few_and_around_the_values(numbers: list[int], unit: float) -> None:
    values = [number * unit for number in numbers]
    axis = linear("", values)
    assert -1e-6 <= axis.share(min(values)) <= axis.share(max(values)) <= 1 + 1e-6
    assert 2 <= len(axis.ticks) <= plots.MOST_TICKS + 1


@given(st.lists(st.floats(1.0, 1e99), min_size=1, max_size=5))
def test_logarithmic_ticks_are_few_and_around_the_values(values: list[float]) -> None:
    axis = logarithmic("", values)
    assert -1e-6 <= axis.share(min(values)) <= axis.share(max(values)) <= 1 + 1e-6
    assert 2 <= len(axis.ticks) <= 2 * plots.MOST_TICKS


@given(st.floats(1.0, 1e6), st.floats(1.11, 3.0))
def test_a_narrow_range_has_three_ticks_at_least(low: float, factor: float) -> None:
    assert len(logarithmic("", [low, low * factor]).ticks) >= 3
    assert [label for _, label in logarithmic("", [20.0, 43.0]).ticks] == ["20", "25", "30", "35", "40", "45"]
