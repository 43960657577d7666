"""The sections of a report that say where its figures come from: training, parts of the text, single guesses, origin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lstmlm.report.formatting import counted, digits_over, figure, nats, one_line, percent, settings, token_text, whole
from lstmlm.report.layout import Section, Table, at, section, table

_CURVE_ROWS = 12
_MOST_DIGITS = 3
"""Of nats: a row of a single token may need more, which all rows would have."""


def training(result: Mapping[str, Any]) -> Section | None:
    """How the validation loss fell, and with which settings."""
    curve, options = at(result, "training", "curve") or [], at(result, "training", "options") or {}
    shown = sorted({round(row * (len(curve) - 1) / (_CURVE_ROWS - 1)) for row in range(_CURVE_ROWS)}) if curve else []
    points = [
        (*(whole(at(curve[row], name)) for name in ("seconds", "step", "tokens")), at(curve[row], "loss")) for row in shown
    ]
    rows = [(*when, figure(loss, 4), figure(math.exp(min(loss, 700)))) for *when, loss in points if loss is not None]
    tables = table(("seconds", "step", "tokens read", "loss", "perplexity"), "rrrrr", rows, keep=3)
    parts = [(one_line(name), settings(values)) for name, values in options.items()]
    text = "The loss is the mean surprisal of a validation token, in nats; perplexity, per token, is exp(loss)."
    if at(result, "training", "sampled"):
        text += " The losses of the steps, of a sampled softmax, are no surprisals and are not shown."
    if len(shown) < len(curve):
        text += f" {len(shown)} of {len(curve):,} validations are shown."
    return section("Training", text, tables + table(("options", ""), "ll", parts), plot="training")


# -- Where the nats are ---------------------------------------------------------------------------------------------------


def _broken_down(result: Mapping[str, Any], label: str, rows: Sequence[tuple[str, Any]]) -> list[Table]:
    """Tokens and nats of each part of a text, and their shares."""
    total = at(result, "nll_nats")
    needed = [digits_over(at(row, "nll_nats"), at(row, "tokens")) or 0 for _, row in rows]
    digits = min(max(needed, default=0), _MOST_DIGITS)
    cells = []
    for name, row in rows:
        spent, count = at(row, "nll_nats"), at(row, "tokens")
        of_total = percent(spent / total) if spent is not None and total else ""
        share = percent(at(row, "share"))
        cells.append((name, figure(at(row, "perplexity")), whole(count), share, nats(spent, digits), of_total))
    columns = (label, "perplexity", "tokens", "share", "nats", "of all nats")
    return table(columns, "lrrrrr", cells)


def frequency(result: Mapping[str, Any]) -> Section | None:
    """What rare tokens cost."""
    rows = [(row.get("name") or "", row) for row in at(result, "breakdowns", "frequency") or []]
    text = (
        "Tokens by how often they stand in the training text. In each row their nats are summed and divided by their "
        "number; perplexity is exp of that."
    )
    return section("By frequency in training", text, _broken_down(result, "times seen", rows), plot="frequency")


def classes(result: Mapping[str, Any]) -> Section | None:
    """What words, numbers, marks and ends cost."""
    rows = [(row.get("name") or "", row) for row in at(result, "breakdowns", "class") or []]
    text = "Tokens by what they are written with: nats summed over the tokens of each class, and divided by their number."
    return section("By class of token", text, _broken_down(result, "class", rows))


def position(result: Mapping[str, Any]) -> Section | None:
    """What the text before a token is worth."""
    rows = [(_range(row), row) for row in at(result, "breakdowns", "position") or []]
    text = (
        "Tokens by their place in their document, of which the first is 1: nats summed over those of each row, and divided "
        "by their number."
    )
    if at(result, "protocol", "mode") in ("stream", "document"):
        text += " What falls from row to row is what the text before a token is worth."
    return section("By position in the document", text, _broken_down(result, "position", rows), plot="position")


def _range(row: Mapping[str, Any]) -> str:
    low, high = row.get("low"), row.get("high")
    if low is None:
        return ""
    return f"{low:,} on" if high is None else f"{low:,}" if low == high else f"{low:,} to {high:,}"


def documents(result: Mapping[str, Any]) -> Section | None:
    """The best and the worst ones."""
    tables = []
    for name in ("best", "worst"):
        found = at(result, "breakdowns", "documents", name) or []
        digits = [digits_over(document.get("nll_nats"), document.get("tokens")) or 0 for document in found]
        rows = [
            (
                whole(document.get("number")),
                whole(document.get("tokens")),
                nats(document.get("nll_nats"), max(digits)),
                figure(document.get("perplexity")),
                one_line(document.get("begins") or ""),
            )
            for document in found
        ]
        tables += table(("number", "tokens", "nats", "perplexity", "begins"), "rrrrt", rows, f"{name} predicted")
    count = at(result, "breakdowns", "documents", "count")
    of = f" of {count:,}" if count is not None else ""
    text = f"The documents{of} with the least and the most nats per token; perplexity is exp(nats / tokens) of each."
    return section("By document", text, tables)


def worst_tokens(result: Mapping[str, Any]) -> Section | None:
    """Single ones, each in its context."""
    rows = [
        (
            one_line(worst.get("before") or ""),
            token_text(worst.get("token") or ""),
            figure(worst.get("bits"), 1),
            whole(worst.get("rank")),
            token_text(worst.get("guess") or ""),
            percent(worst.get("confidence")),
        )
        for worst in at(result, "breakdowns", "worst_tokens") or []
    ]
    text = (
        "The tokens that cost most, each with the text before it: its surprisal in bits, its rank among all tokens, and "
        "what the model held for likeliest instead, with its probability."
    )
    return section(
        "Most surprising tokens", text, table(("after", "token", "bits", "rank", "guess", "p(guess)"), "ttrrtr", rows)
    )


# -- Guesses --------------------------------------------------------------------------------------------------------------


def next_token(result: Mapping[str, Any]) -> Section | None:
    """How often the token is among the likeliest."""
    tokens = at(result, "tokens")
    rows = []
    for name, share in (at(result, "accuracy") or {}).items():
        right = f"{whole(share * tokens)} of {whole(tokens)} tokens" if share is not None and tokens else ""
        rows.append((f"top {name.removeprefix('top')}", percent(share), right))
    rows.append(("MRR@10", figure(at(result, "mrr10"), 3), "mean of 1 / rank, 0 beyond the tenth"))
    text = "How often the token of the text is the likeliest one, or among the 3, 5 or 10 likeliest."
    return section("Next token", text, table(("", "", ""), "lrl", [row for row in rows if row[1]]))


def tops(accuracy: Any, mrr10: float | None) -> list[str]:
    """`top 3, 5, 10: 42.6%, 49.1%, 57.2%` and `MRR@10 0.371`, as far as they are there."""
    shares = {str(k): percent(share) for k in (3, 5, 10) if (share := at(accuracy, f"top{k}")) is not None}
    said = [f"top {', '.join(shares)}: {', '.join(shares.values())}"] if shares else []
    return said if mrr10 is None else [*said, f"MRR@10 {figure(mrr10, 3)}"]


def keyboard(result: Mapping[str, Any]) -> Section | None:
    """The figures of `keyboard_metrics`."""
    found = at(result, "keyboard")
    rows = _offers(found) + _keystrokes(found) + _ghosts(found)
    text = (
        "The text is typed letter by letter, and before each letter the words that a keyboard would offer are judged. The "
        "median time is that of a list made when it is asked for; an editor makes them ahead, between two keys."
    )
    counts = [at(found, name) for name in ("words", "words_in_text", "others", "k")]
    note = ""
    if None not in counts:
        words, in_text, others, shown = counts
        note = (
            f"{words:,} of {counted(in_text, 'words')} typed, with {counted(shown, 'words')} shown; choosing one is one key "
            f"and brings its space. Marks and unknown words between them: {others:,}."
        )
    return section("Under a keyboard", text, table(("", "", ""), "lrl", _with_parents(rows)), note)


def _with_parents(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Rows with a figure, and those without under which an indented row with one would else stand under another."""
    kept: list[tuple[str, str, str]] = []
    below = False
    for label, value, more in reversed(rows):
        if value or (below and not label.startswith(" ")):
            kept.insert(0, (label, value or "-", more))
        below = label.startswith(" ") and (below or bool(value))
    return kept


def _named(**figures: str) -> str:
    """`top 3 45.0%  p90 3.00`, of those that are there."""
    return "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items() if value)


def _offers(found: Any) -> list[tuple[str, str, str]]:
    rows = []
    for label, name in (("next word right", "accuracy"), ("  in vocabulary", "accuracy_in_vocabulary")):
        accuracy = at(found, name)
        if name == "accuracy" or accuracy != at(found, "accuracy"):
            words = at(accuracy, "words")
            of = [f"of {counted(words, 'words')}"] if words is not None else []
            more = "; ".join(tops(accuracy, at(accuracy, "mrr10")) + of)
            rows.append((label, percent(at(accuracy, "top1")), more))
    for part in at(found, "completion") or []:
        low, high, places = part.get("from"), part.get("to"), part.get("places")
        if low is not None and high is not None:
            typed = f"  {low:.0%} to {high:.0%} typed" if low else f"  under {high:.0%} typed"
            at_places = counted(places, "places") if places is not None else ""
            rows.append((typed, percent(part.get("top1")), _named(top_3=percent(part.get("top3")), at=at_places)))
    return rows


def _keystrokes(found: Any) -> list[tuple[str, str, str]]:
    keys, chars, *shares = (
        at(found, "keystrokes", name) for name in ("keys", "chars", "saving", "vocabulary_limit", "limit")
    )
    saving, vocabulary_limit, limit = (percent(None if share is None else share / 100) for share in shares)
    spent = f"{keys:,} keys for {chars:,} characters; " if keys is not None and chars is not None else ""
    limits = {"vocabulary_limit": "" if vocabulary_limit == limit else vocabulary_limit, "limit": limit}
    return [("keystrokes saved", saving, spent + _named(**limits))]


def _ghosts(found: Any) -> list[tuple[str, str, str]]:
    rows = []
    for label, kind in (("ghost right", "next"), ("  while typing", "typing")):
        places, coverage = (at(found, "ghost", kind, name) for name in ("places", "coverage"))
        threshold = at(found, "threshold")
        shown, right = percent(coverage), percent(at(found, "ghost", kind, "precision"))
        above = f"where it is above {threshold:.0%}: at {shown} of {whole(places)} places" if threshold and shown else ""
        if coverage == 0 and threshold:
            right, above = "-", f"never above {threshold:.0%}, at {whole(places)} places"
        rows.append((label, right, above))
    words = at(found, "calibration", "words")
    of = f"of the percentages of {words:,} words shown" if words is not None else ""
    rows.append(("calibration error", percent(at(found, "calibration", "ece")), of))
    for label, kind in (("ms per list, median", "next"), ("  while typing", "typing")):
        p50, p90, p99 = (figure(at(found, "latency_ms", kind, name)) for name in ("p50", "p90", "p99"))
        rows.append((label, p50, _named(p90=p90, p99=p99)))
    return rows


def classification(result: Mapping[str, Any]) -> Section | None:
    """The first guess, as if there were no other."""
    found = at(result, "classification")
    names = ("precision", "recall", "f1")
    rows = [(average, *(percent(at(found, average, name)) for name in names)) for average in ("macro", "weighted")]
    scores = table(("average", "precision", "recall", "F1"), "lrrr", rows)
    rows = [
        ("accuracy of all tokens", percent(at(found, "accuracy"))),
        ("AUC of the confidence", figure(at(found, "auc"), 3)),
    ]
    scores += table(("", ""), "lr", rows)
    pairs = [
        (token_text(pair.get("token") or ""), token_text(pair.get("guess") or ""), whole(pair.get("count")))
        for pair in at(found, "confused") or []
    ]
    classes, tokens = at(found, "classes"), at(found, "tokens")
    which = f"the {whole(classes)} most frequent words" if classes is not None else "the most frequent words"
    which += " (tokens that spell a word or a piece of one" + (f"; {whole(tokens)} places)" if tokens is not None else ")")
    text = (
        f"The first guess, as a classifier of {which}: precision is how often a guess is right, recall how often a word is "
        "guessed, F1 their harmonic mean; macro counts each word once, weighted each of its places. AUC is how often the "
        "model is surer of a right guess than of a wrong one: 0.5 by chance."
    )
    confused = table(("token", "guess", "count"), "ttr", pairs, "most confused", keep=2)
    return section("Classification", text, scores + confused, plot="roc" if at(found, "roc") else "")


def calibration(result: Mapping[str, Any]) -> Section | None:
    """Whether probabilities are what they say."""
    found = at(result, "calibration")
    rows = []
    for part in at(found, "bins") or []:
        low, high, mean, right = (part.get(name) for name in ("low", "high", "confidence", "accuracy"))
        gap = f"{round(100 * (right - mean), 1) + 0.0:+.1f}" if right is not None and mean is not None else ""
        limits = f"{low:.0%} to {high:.0%}" if low is not None and high is not None else ""
        if part.get("tokens"):
            rows.append((limits, whole(part.get("tokens")), percent(mean), percent(right), gap))
    bins = table(("confidence", "tokens", "mean", "right", "gap"), "lrrrr", rows, "first guesses, by their probability")
    figures = [
        ("expected calibration error", percent(at(found, "ece"), 2), "mean distance of sure and right, over the tokens"),
        ("Brier score", figure(at(found, "brier"), 4), "squared error of all probabilities: 0 is best, 2 worst"),
        ("entropy", figure(at(found, "entropy_nats"), 4), "nats that the model expected to pay for a token"),
        ("  minus surprisal", _signed(at(found, "entropy_minus_nats")), "below 0: it was too sure of itself"),
    ]
    temperature = at(found, "temperature")
    best, before, after, tokens = (at(temperature, name) for name in ("best", "nats_before", "nats_after", "tokens"))
    bought = ""
    if before is not None and after is not None and tokens:
        split = one_line(at(temperature, "split") or "validation")
        bought = f"{before / tokens:.4f} to {after / tokens:.4f} nats per token, over {tokens:,} tokens of {split}"
    figures.append(("best temperature", figure(best, 3), bought))
    text = (
        "Of the tokens that the model gives 30%, 30% should come. The first guesses are put into bins by their "
        "probability; in each, the mean probability stands beside the share that was right; the gap is in percentage points."
    )
    tables = bins + table(("", "", ""), "lrl", [row for row in figures if row[1]])
    return section("Calibration", text, tables, plot="reliability" if bins else "")


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.4f}"


# -- What it writes, and where all this comes from --------------------------------------------------------------------------


def samples(result: Mapping[str, Any]) -> Section | None:
    """What the model writes."""
    rows = [
        (one_line(sample.get("prompt") or ""), one_line(sample.get("text") or "")) for sample in result.get("samples") or []
    ]
    return section("Samples", "What the model writes after a prompt.", table(("prompt", "continuation"), "tt", rows))


def coloured(result: Mapping[str, Any]) -> Section | None:
    """Only a plot."""
    if not at(result, "coloured", "text"):
        return None
    text = "A passage of the text; the stronger the colour of a word, the more bits it took."
    return Section("Surprisal in context", text, plot="coloured")


def provenance(result: Mapping[str, Any]) -> Section | None:
    """Files, versions, machine."""
    found = at(result, "provenance")
    path, parameters = at(result, "model", "path"), at(result, "model", "parameters")
    seconds = at(result, "seconds")
    counts = [(at(result, "text", name), name) for name in ("bytes", "chars", "words", "lines", "documents")]
    rows = [
        *origin(result),
        ("seconds", f"{seconds:,.1f}" if seconds is not None else ""),
        ("model", one_line(path or "") + (f", {parameters:,} parameters" if path and parameters is not None else "")),
        ("model sha256", at(found, "model_sha256") or at(result, "model", "sha256") or ""),
        ("text", ", ".join(counted(count, name) for count, name in counts if count is not None)),
        ("text sha256", at(found, "text_sha256") or at(result, "text", "sha256") or ""),
        ("tokenizer", at(found, "tokenizer_fingerprint") or ""),
    ]
    return section("Provenance", "What is needed to compute all this again.", table(("", ""), "ll", rows))


def origin(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How, when and on what a report was made."""
    found = at(result, "provenance")
    said = [(name, one_line(at(found, name) or "")) for name in ("command", "date")]
    return said + [(name, settings(at(found, name))) for name in ("versions", "machine")]


def cite(result: Mapping[str, Any]) -> Section | None:
    """One line."""
    return Section("To cite", one_line(result["cite"])) if result.get("cite") else None
