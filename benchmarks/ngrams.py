"""Kneser-Ney n-grams on word-level texts: perplexity of the validation split, seconds, peak memory.

    python benchmarks/ngrams.py PATH/TO/penn-treebank PATH/TO/wikitext-2 [--order 5] [--kenlm]

Every token counts, `<eos>` at the end of each line and `<unk>` among them. The memory is the most the process held so far.
With `--kenlm`, KenLM's Python package (`pip install kenlm`) reads the model as an ARPA file and scores the same text: the
largest difference of a token's score, in nats.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from lstmlm.config import TokenizerConfig
from lstmlm.corpus import open_corpus
from lstmlm.ngram import NGramModel, arpa_lines, train_ngram
from lstmlm.ngram.arpa import arpa_symbols
from lstmlm.scoring import perplexity
from lstmlm.token_store import Ids, read_segments
from lstmlm.tokenizer import Tokenizer
from lstmlm.training.probing import peak_memory


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--order", default=5, show_default=True)
@click.option("--kenlm", "with_kenlm", is_flag=True, help="Compare every score with KenLM's.")
def main(sources: tuple[str, ...], order: int, with_kenlm: bool) -> None:
    """Print a line for each source."""
    difference = f"{'KenLM differs by':>20}" if with_kenlm else ""
    click.echo(f"{'source':<20}{'n-grams':>12}{'perplexity':>12}{'train s':>10}{'score s':>10}{'peak MB':>10}{difference}")
    for source in sources:
        corpus = open_corpus([source])
        words = (piece for file in corpus.files("train") for piece in file)
        tokenizer = Tokenizer.train(TokenizerConfig(kind="word", min_count=1), words)
        texts, held_out = (read_segments(tokenizer, corpus.files(split))[0] for split in ("train", "valid"))
        before = time.perf_counter()
        model = train_ngram(texts, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=order)
        trained = time.perf_counter()
        nats_N = np.concatenate([model.score(ids) for ids in held_out])
        scored = time.perf_counter()
        click.echo(
            f"{Path(source).name:<20}{model.num_parameters:>12,}{perplexity(float(nats_N.sum()), len(nats_N)):>12.2f}"
            f"{trained - before:>10.2f}{scored - trained:>10.2f}{peak_memory() / 1e6:>10,.0f}",
            nl=not with_kenlm,
        )
        if with_kenlm:
            click.echo(f"{np.abs(_kenlm(model, tokenizer, held_out) - nats_N).max():>20.1e}")


def _kenlm(model: NGramModel, tokenizer: Tokenizer, texts: list[Ids]) -> np.ndarray:
    """Surprisal of every token in nats, by KenLM."""
    import kenlm

    symbols = arpa_symbols(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.arpa"
        with path.open("w") as file:
            file.writelines(arpa_lines(model, symbols))
        reader = kenlm.Model(str(path))
    nats: list[float] = []
    for ids in texts:
        for line in np.split(ids, np.flatnonzero(ids == tokenizer.eos) + 1):
            if len(line):
                text = " ".join(symbols[token] for token in line[:-1])
                nats += [-math.log(10) * score for score, _, _ in reader.full_scores(text)]
    return np.array(nats)


if __name__ == "__main__":
    main()
