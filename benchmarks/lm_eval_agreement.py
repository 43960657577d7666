"""One model, one text, measured twice: by the Language Model Evaluation Harness, and by `lstmlm eval --mode document`.

    pip install 'lstmlm[lm-eval]'
    python benchmarks/lm_eval_agreement.py MODEL TEXT [--documents blank-line]

The harness gets the text's documents as a local file, as a task of its kind for perplexities (`loglikelihood_rolling`). Its
three figures stand beside those that follow from the `nll_nats` of `lstmlm eval` and the counts that the harness divides by,
and beside those of `lstmlm eval`, which divides by others (see `lstmlm/integrations/lm_eval.py`). Fails if what should be
equal differs by a millionth.
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from lstmlm.config import DOCUMENT_RULES, CorpusConfig, updated
from lstmlm.corpus import open_texts
from lstmlm.evaluation import evaluate
from lstmlm.keyboard import documents_of
from lstmlm.predictor import load_any

MOST = 1e-6


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("text", metavar="TEXT")
@click.option("--documents", type=click.Choice(DOCUMENT_RULES), help="What ends a document.  [default: as in training]")
def main(model: str, text: str, documents: str | None) -> None:
    """Print both, and how much they differ."""
    loaded = load_any(model)
    corpus = open_texts([text], updated(CorpusConfig(documents=loaded.documents), documents=documents), None)
    cut = list(documents_of(corpus.files("test")))
    began = time.monotonic()
    theirs = harness(model, cut)
    between = time.monotonic()
    ours = evaluate(loaded, corpus, mode="document")
    nats, words, size = (
        ours["nll_nats"],
        sum(len(re.split(r"\s+", one)) for one in cut),
        sum(len(one.encode()) for one in cut),
    )
    rows = (
        ("total log-likelihood, nats", theirs["nats"], -nats, -nats),
        ("word_perplexity", theirs["word_perplexity,none"], math.exp(nats / words), ours["perplexity"]["word"]),
        ("byte_perplexity", theirs["byte_perplexity,none"], math.exp(nats / size), ours["perplexity"]["byte"]),
        ("bits_per_byte", theirs["bits_per_byte,none"], nats / math.log(2) / size, ours["bits_per_byte"]),
    )
    click.echo(f"{len(cut):,} documents; seconds: lm_eval {between - began:.1f}, lstmlm {time.monotonic() - between:.1f}")
    click.echo(f"words: lm_eval {words:,}, lstmlm {ours['text']['words']:,}")
    click.echo(f"bytes: lm_eval {size:,}, lstmlm {ours['text']['bytes']:,}")
    click.echo(f"{'':<28}{'lm_eval':>20}{'from our nats':>20}{'difference':>12}{'lstmlm eval':>20}")
    for name, found, expected, reported in rows:
        difference = abs(found / expected - 1)
        click.echo(f"{name:<28}{found:>20.8f}{expected:>20.8f}{difference:>12.1e}{reported:>20.8f}")
        if difference > MOST:
            raise click.ClickException(f"{name} differs by {difference:.1e}; expected at most {MOST:.0e}")


def harness(model: str, documents: list[str]) -> dict[str, Any]:
    """The harness's figures, and its sum of all log-likelihoods as `nats`. Nothing is asked of a network."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from lstmlm.integrations.lm_eval import HarnessModel

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
        task = {
            "task": "documents",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(path)}, "cache_dir": folder},
            "test_split": "test",
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "text",  # the column itself: as a template, a document in brackets would be taken for a list
            "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        }
        own = TaskManager(include_defaults=False)
        found = simple_evaluate(HarnessModel(model), tasks=[task], task_manager=own, bootstrap_iters=0)
    answers = [sample["filtered_resps"][0] for sample in found["samples"]["documents"]]
    return found["results"]["documents"] | {"nats": math.fsum(answers)}


if __name__ == "__main__":
    main()
