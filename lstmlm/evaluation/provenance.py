"""Where a figure comes from, and how to cite it: what somebody else needs to compute it again."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lstmlm import __version__
from lstmlm.evaluation.scored import Scored

_LIBRARIES = ("torch", "numpy", "tokenizers")
_HASH = 12
"""Characters of a hash in a line to cite."""


def provenance(scored: Scored, command: str) -> dict[str, Any]:
    """Hashes, and the `circumstances`."""
    return circumstances(command) | {
        "model_sha256": scored.loaded.sha256,
        "text_sha256": scored.text.sha256,
        "tokenizer_fingerprint": scored.loaded.tokenizer.fingerprint,
    }


def circumstances(command: str) -> dict[str, Any]:
    """Versions, the machine and the day (UTC); `command` is what was typed."""
    return {
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "versions": {"lstmlm": __version__, "python": platform.python_version()}
        | {library: version(library) for library in _LIBRARIES},
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _processor() -> str:
    """Its name; Python knows it on some systems, Linux tells it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cite(result: Mapping[str, Any]) -> str:
    """A report in one line: model, text, figure with its interval, protocol, version.

    The figure is the perplexity per token of a word model, as papers give it, else bits per byte, which do not depend on the
    tokenizer.
    """
    model, text, interval = result["model"], result["text"], result["confidence95"] or {}
    name, value = ("perplexity_token", result["perplexity"]["token"])
    unit = "perplexity {} per token"
    if model["tokenizer"] != "word":
        name, value, unit = "bits_per_byte", result["bits_per_byte"], "{} bits per byte"
    figure = unit.format(_figure(value)) + _interval(interval, name)
    start = "from the start symbol" if result["protocol"]["start"] == "<s>" else "from the zero state"
    about, split = result.get("provenance") or {}, text.get("split")
    unknown = f" ({result['tokens_unknown']:,} of them unknown)" if result["tokens_unknown"] else ""
    parts = [
        f"lstmlm {about.get('versions', {}).get('lstmlm', __version__)}",
        f"model {model['path']} (SHA-256 {model['sha256'][:_HASH]})",
        f"{f'{split} split of' if split else 'text'} {', '.join(text['paths'])} (SHA-256 {text['sha256'][:_HASH]})",
        f"{figure} over {result['tokens']:,} tokens{unknown}, {text['words']:,} words, {text['bytes']:,} bytes",
        f"mode {result['protocol']['mode']}, {start}, every token a target once",
    ]
    parts += [about["date"]] if about else []
    return " ".join("; ".join(parts).split())


def _interval(interval: Mapping[str, Any], name: str) -> str:
    if not interval.get(name):
        return ""
    low, high = map(_figure, interval[name])
    return f" (95% {low} to {high}, {interval['method']})"


def _figure(value: float | None) -> str:
    """Four digits, as many as a text of ordinary size supports."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
