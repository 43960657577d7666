"""What must hold of completions, on a real model: sums, and that one more key only filters the list.

    python benchmarks/completion_identities.py MODEL --text FILE [--cuts 1000] [--part cache ...]

At random places of the text it asks for words, and again after one more letter. Shares and `other` must add up to 1, and the
shares of the words in both lists must stand in one ratio, the probability of the letter: p(w | C, P) / p(w | C, P + letter).
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import click

from lstmlm.completion import complete
from lstmlm.generation import Session
from lstmlm.predictor import load_any, open_predictor

_CONTEXT = 300
"""Characters before a cut, so that reading does not take longest."""


@click.command()
@click.argument("model")
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--cuts", default=1000, show_default=True)
@click.option("--part", "parts", multiple=True, help="cache, dynamic, ngram: as `lstmlm tune` fitted them.")
def main(model: str, text: Path, cuts: int, parts: tuple[str, ...]) -> None:
    """Print the largest differences."""
    content = text.read_text(encoding="utf-8")
    predictor = open_predictor(load_any(model), parts)
    chosen, session = random.Random(1), Session(predictor)
    sums, ratios, bounds, exact = [], [], [], 0
    for _ in range(cuts):
        cut = chosen.randrange(_CONTEXT, len(content) - 1)
        asked = content[cut - _CONTEXT : cut]
        answer = complete(session, asked, k=10)
        exact += answer.exact
        bounds.append(answer.mass_bound)
        sums.append(abs(math.fsum(c.probability for c in answer.candidates) + answer.other_probability - 1))
        if not answer.exact or not answer.candidates:
            continue
        letter = answer.candidates[0].word[len(answer.typed) : len(answer.typed) + 1]
        longer = complete(session, asked + letter, k=10) if letter and answer.candidates[0].word != answer.typed else None
        if longer is None or not longer.exact:
            continue
        after = {c.word: c.probability for c in longer.candidates}
        both = [(c.probability, after[c.word]) for c in answer.candidates if c.word in after]
        if not both:
            continue
        share = math.fsum(p for p, _ in both) / math.fsum(p for _, p in both)
        ratios.append(max(abs(p - share * q) for p, q in both))
    click.echo(f"{cuts:,} places, {exact:,} exact; largest bound {max(bounds):.1e}")
    click.echo(f"|sum + other - 1| at most {max(sums):.1e}; |p - share p'| after one more letter at most {max(ratios):.1e}")


if __name__ == "__main__":
    main()
