"""What training on with new text has gained there, and lost on the old."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lstmlm.checkpoint import LoadedModel
from lstmlm.errors import LstmlmError
from lstmlm.evaluation.origin import held_out
from lstmlm.evaluation.report import evaluate


def forgetting(
    before: LoadedModel,
    after: LoadedModel,
    *,
    measured: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What a model that was trained on with new text has gained there, and lost on the old.

    `before` is the model that `after` started from; both score the text that was held out when either was trained.
    `measured` is the result of `evaluate` for `after` on its own one, where that is known already.

    A text that cannot be had any more, or has changed, is not among `texts` but in `missing`, with the reason; nothing
    is raised.
    """
    texts, missing = [], []
    for domain, owner in (("old", before), ("new", after)):
        try:
            corpus, split, sha256 = held_out(owner)
            first = evaluate(before, corpus, split, progress=progress, expected_sha256=sha256)
            second = measured if domain == "new" else None
            second = second or evaluate(after, corpus, split, progress=progress, expected_sha256=sha256)
        except (LstmlmError, OSError) as error:
            missing.append({"domain": domain, "reason": str(error)})
            continue
        about = {"domain": domain, "name": corpus.name, "split": split, "sha256": first["text"]["sha256"]}
        counts = {"tokens": first["tokens"], "bytes": first["text"]["bytes"], "words": first["text"]["words"]}
        texts.append(about | counts | {"before": _headline(first), "after": _headline(second)})
    return {"before": before.sha256, "after": after.sha256, "texts": texts, "missing": missing}


def _headline(result: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "nll_nats": result["nll_nats"],
        "bits_per_byte": result["bits_per_byte"],
        "perplexity_word": result["perplexity"]["word"],
    }
