"""Kneser-Ney n-grams on word-level texts: perplexity of the validation split, seconds, peak memory.

    python benchmarks/ngrams.py PATH/TO/penn-treebank PATH/TO/wikitext-2 [--order 5]

Every token counts, `<eos>` at the end of each line and `<unk>` among them. The memory is the most the process held so far.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np

from lstmlm.config import TokenizerConfig
from lstmlm.corpus import Corpus, open_corpus
from lstmlm.ngram import train_ngram
from lstmlm.scoring import perplexity
from lstmlm.token_store import TokenStore, build_store, open_store
from lstmlm.tokenizer import Tokenizer
from lstmlm.training.probing import peak_memory


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--order", default=5, show_default=True)
def main(sources: tuple[str, ...], order: int) -> None:
    """Print a line for each source."""
    click.echo(f"{'source':<20}{'n-grams':>12}{'perplexity':>12}{'train s':>10}{'score s':>10}{'peak MB':>10}")
    for source in sources:
        corpus = open_corpus([source])
        words = (piece for file in corpus.files("train") for piece in file)
        tokenizer = Tokenizer.train(TokenizerConfig(kind="word", min_count=1), words)
        stores = {split: _tokens(corpus, split, tokenizer) for split in ("train", "valid")}
        texts, held_out = ([np.array(ids) for ids in stores[split].files] for split in ("train", "valid"))
        before = time.perf_counter()
        model = train_ngram(texts, vocabulary_size=tokenizer.vocabulary_size, eos=tokenizer.eos, order=order)
        trained = time.perf_counter()
        nats = sum(float(model.score(ids).sum()) for ids in held_out)
        scored = time.perf_counter()
        found = perplexity(nats, stores["valid"].tokens.tokens)
        grams = sum(len(of_order.keys_G) for of_order in model.orders)
        click.echo(
            f"{Path(source).name:<20}{grams:>12,}{found:>12.2f}{trained - before:>10.2f}{scored - trained:>10.2f}"
            f"{peak_memory() / 1e6:>10,.0f}"
        )


def _tokens(corpus: Corpus, split: str, tokenizer: Tokenizer) -> TokenStore:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / split
        for _ in build_store(path, corpus.files(split), tokenizer):
            pass
        return open_store(path)  # the mapped file outlives its name


if __name__ == "__main__":
    main()
