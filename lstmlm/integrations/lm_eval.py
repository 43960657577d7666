r"""A model for the Language Model Evaluation Harness (lm_eval; Gao et al., doi 10.5281/zenodo.12608602).

    from lm_eval import simple_evaluate
    from lstmlm.integrations.lm_eval import HarnessModel

    simple_evaluate(HarnessModel("checkpoints/novel"), tasks=["lambada_openai"])

What each kind of request means is said at the functions of `harness.py`. The three figures of its perplexity tasks are made
of the same sum as those of `lstmlm eval --mode document`, where a document there is one here, and of other counts:

    word_perplexity      exp(nats / words), words = len(re.split(r"\s+", document)): where white space begins or ends a
                         document, that is one more each than ours, the runs between white space
    byte_perplexity      exp(nats / bytes), the UTF-8 of the documents; ours counts all of a file, so also the blank lines
                         that separate documents
    bits_per_byte        nats / ln 2 / bytes

Models with a fixed window are given long documents in parts; here the state goes through all of one. In a word model every
unknown word is `<unk>`, and as likely: its figures on plain text are not those of a model that can spell all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from lstmlm.errors import UsageError
from lstmlm.generation import Session
from lstmlm.integrations.harness import continuation_loglikelihoods, document_loglikelihoods, sampling_config
from lstmlm.predictor import AnyModel, load_any

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.models.utils import normalize_gen_kwargs
    from tqdm import tqdm
except ModuleNotFoundError as error:
    raise UsageError(f"lm-evaluation-harness is needed here ({error}): pip install 'lstmlm[lm-eval]'") from error

_REQUESTS_AT_ONCE = 256
"""Scored together, and then in the harness's cache."""


class HarnessModel(LM):  # type: ignore[misc]  # the harness has no types
    """Answers the harness's requests with a neural model or n-grams: loaded, or the path of a directory."""

    def __init__(self, model: str | Path | AnyModel, *, closing: bool = True) -> None:
        """`closing` counts the `<eos>` that closes a document, as `lstmlm eval` does and the harness's other models do not.

        Raises:
            UsageError: `model` does not exist.
            ArtefactError: it is not a model, or is damaged.
        """
        super().__init__()
        self._loaded = load_any(model) if isinstance(model, str | Path) else model
        self._session = Session(self._loaded)
        self._closing = closing

    def get_model_info(self) -> dict[str, Any]:
        """What the harness notes beside its results."""
        return {
            "model_path": str(self._loaded.path),
            "model_sha": self._loaded.sha256,
            "model_num_parameters": self._loaded.model.num_parameters,
            "closing_eos": self._closing,
        }

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """See `continuation_loglikelihoods`."""
        found: list[tuple[float, bool]] = []
        for group in self._groups("loglikelihood", requests, found, disable_tqdm):
            found += continuation_loglikelihoods(self._session, group)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """See `document_loglikelihoods`."""
        found: list[float] = []
        for group in self._groups("loglikelihood_rolling", requests, found, disable_tqdm):
            found += document_loglikelihoods(self._loaded, [text for (text,) in group], closing=self._closing)
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """See `Session.write`; what is drawn comes from torch's generator, which the harness seeds."""
        found: list[str] = []
        for group in self._groups("generate_until", requests, found, disable_tqdm, at_once=1):
            for context, given in group:
                options = normalize_gen_kwargs(given)
                stop, most = filter(None, options.pop("until")), options.pop("max_gen_toks")
                seed = int(torch.randint(1 << 62, ()))
                config = sampling_config(options)
                found.append("".join(self._session.write(context, config, max_tokens=most, stop=[*stop], seed=seed)))
        return found

    def _groups(
        self, kind: str, requests: list[Instance], found: Sequence[Any], disable_tqdm: bool, at_once: int = _REQUESTS_AT_ONCE
    ) -> Iterator[list[Any]]:
        """The arguments of some requests at a time, whose answers are appended to `found` before the next are asked for."""
        with tqdm(total=len(requests), desc=kind, disable=disable_tqdm) as bar:
            for begin in range(0, len(requests), at_once):
                group = [request.args for request in requests[begin : begin + at_once]]
                yield group
                for arguments, answer in zip(group, found[begin:], strict=True):
                    self.cache_hook.add_partial(kind, arguments, answer)
                bar.update(len(group))
