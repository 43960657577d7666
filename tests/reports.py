"""The JSON objects of `lstmlm eval --json` and `compare --json` with every key there is, plausible figures, hostile text."""

from __future__ import annotations

import math
from typing import Any

HOSTILE = (
    "</pre><script>alert(1)</script>",
    "\"double\" & 'single' &amp; <b>",
    "\u202eright\u200fto left\u202c \u05e9\u05dc\u05d5\u05dd",
    "bell\x07 escape\x1b[31m nul\x00",
    "emoji \U0001f63a\U0001f469\u200d\U0001f680 e\u0301",
    "javascript:alert(1) url(http://example.org/x.png)",
    "a_very_" + "long_" * 30 + "word",
    "]]> <!-- <style>* { display: none }</style> {{ }} $name",
)
TOKENS, WORDS, LINES = 245_569, 241_211, 4_358


def full_result() -> dict[str, Any]:
    """A word model on WikiText-2, with everything asked for."""
    nats = TOKENS * math.log(86.12)
    return {
        "schema": "lstmlm.eval/1",
        "model": {
            "path": "checkpoints/wikitext-2",
            "parameters": 21_345_678,
            "tokenizer": "word",
            "vocabulary_size": 33_278,
            "sha256": "ab" * 32,
        },
        "text": {
            "paths": ["wikitext-2/test.txt", f"corpora/{HOSTILE[0]}"],
            "split": "test",
            "sha256": "cd" * 32,
            "bytes": 1_256_449,
            "chars": 1_250_001,
            "words": WORDS,
            "lines": LINES,
            "documents": 62,
        },
        "protocol": {
            "mode": "stream",
            "documents": "blank-line",
            "start": "eos",
            "precision": "fp32",
            "approximate": False,
        },
        "nll_nats": nats,
        "tokens": TOKENS,
        "tokens_eos": LINES,
        "tokens_unknown": 6_451,
        "perplexity": {
            "token": 86.12,
            "word": math.exp(nats / WORDS),
            "word_with_eos": math.exp(nats / (WORDS + LINES)),
            "byte": math.exp(nats / 1_256_449),
        },
        "bits_per_byte": nats / math.log(2) / 1_256_449,
        "bits_per_char": nats / math.log(2) / 1_250_001,
        "lossless": False,
        "oov": {"rate": 6_451 / TOKENS, "including": 86.12, "excluding": 90.4, "adjusted": 103.9, "types": 812},
        "accuracy": {"top1": 0.281, "top3": 0.42, "top5": 0.487, "top10": 0.573},
        "mrr10": 0.371,
        "confidence95": {
            "perplexity_token": [83.91, 88.42],
            "perplexity_word": [90.5, 95.88],
            "bits_per_byte": [1.2486, 1.2634],
            "method": "bootstrap, documents",
            "clusters": 62,
            "draws": 2000,
            "seed": 1,
        },
        "warnings": ["6,451 tokens are unknown <to> the model & count as one class"],
        "checks": [
            {"name": "probabilities sum to 1", "passed": True, "detail": "largest error 3e-7 at 64 places"},
            {"name": "no token sees a later one", "passed": True, "detail": "64 places, bit for bit"},
            {"name": "chunks change nothing", "passed": False, "detail": "largest difference 2e-3 nats > 1e-6"},
        ],
        "baselines": {
            "uniform": _figures(33_278),
            "unigram": _figures(963.4),
            "5-gram": _figures(220.1) | {"confidence95": [213.9, 226.4]},
        },
        "rows": {
            "cache": _row(68.3, {"model": 0.84, "cache": 0.16}, {"cache": {"window": 2000, "sharpness": 0.31}}),
            "cache+dynamic": _row(61.2, {"model": 0.88, "cache": 0.12}, {"dynamic": {"learning_rate": 0.0004}}),
        },
        "breakdowns": _breakdowns(),
        "classification": {
            "classes": 1000,
            "tokens": 180_112,
            "macro": {"precision": 0.31, "recall": 0.18, "f1": 0.21},
            "weighted": {"precision": 0.37, "recall": 0.36, "f1": 0.34},
            "accuracy": 0.281,
            "confused": [
                {"token": token, "guess": guess, "count": 4000 // (place + 1)}
                for place, (token, guess) in enumerate(zip([*HOSTILE, "a", "of"], ["the", ",", *HOSTILE], strict=True))
            ],
            "auc": 0.812,
            "roc": [[(place / 100) ** 2, math.sin(place * math.pi / 200) ** 0.8] for place in range(101)],
        },
        "calibration": {
            "bins": [
                {
                    "low": place / 15,
                    "high": (place + 1) / 15,
                    "tokens": int(60_000 * math.exp(-place / 3)) + 900 * place,
                    "confidence": (place + 0.47) / 15,
                    "accuracy": (place + 0.47) / 15 - 0.05 * math.sin(place / 5),
                }
                for place in range(15)
            ],
            "ece": 0.0123,
            "brier": 0.8123,
            "entropy_nats": 4.39,
            "entropy_minus_nats": -0.0657,
            "temperature": {
                "best": 1.03,
                "split": "valid",
                "tokens": 20_000,
                "nats_before": 89_712.0,
                "nats_after": 89_655.5,
            },
        },
        "training": _training(),
        "samples": [{"prompt": prompt, "text": f"{prompt} and so on\nuntil the end ."} for prompt in ("The ", *HOSTILE)],
        "coloured": coloured("\n".join(HOSTILE * 3 + ("The cat sat on the mat .",))[:2000]),
        "keyboard": None,
        "seeds": {
            "runs": [
                {"path": f"checkpoints/seed-{seed}", "sha256": "ef" * 32, "seed": seed} | _run(86 + seed / 5)
                for seed in (1, 2, 3)
            ],
            "mean": _run(86.4),
            "sd": {"perplexity_token": 0.2, "perplexity_word": 0.2, "bits_per_byte": 0.0007},
        },
        "provenance": {
            "command": "lstmlm eval checkpoints/wikitext-2 'wikitext-2/test.txt' --html report.html",
            "date": "2026-11-24",
            "versions": {"lstmlm": "0.6", "python": "3.12.1", "torch": "2.13.0", "numpy": "2.1", "tokenizers": "0.22"},
            "machine": {"system": "Linux", "processor": "x86_64", "cores": 2, "threads": 2},
            "model_sha256": "ab" * 32,
            "text_sha256": "cd" * 32,
            "tokenizer_fingerprint": "12" * 32,
        },
        "cite": "checkpoints/wikitext-2 on wikitext-2/test.txt: perplexity 86.12 (95% 83.91 to 88.42), stream, lstmlm 0.6",
        "seconds": 91.234,
        "tokens_per_second": 2691.7,
    }


def coloured(text: str) -> dict[str, Any]:
    """Every word of a text with some bits; each ninth is unknown."""
    units, place = [], 0
    for number, word in enumerate(text.split()):
        start = text.index(word, place)
        place = start + len(word)
        units.append([start, place, (number * 7) % 23 + 0.25, number % 9 == 8])
    return {"text": text, "units": units}


def _figures(perplexity: float) -> dict[str, Any]:
    nats = TOKENS * math.log(perplexity)
    return {
        "nll_nats": nats,
        "perplexity": perplexity,
        "perplexity_word": math.exp(nats / WORDS),
        "bits_per_byte": nats / math.log(2) / 1_256_449,
    }


def _row(perplexity: float, weights: dict[str, float], parameters: dict[str, Any]) -> dict[str, Any]:
    more = {"seconds": 61.5, "tokens_per_second": 3992.1, "confidence95": [perplexity - 2, perplexity + 2]}
    return _figures(perplexity) | {"parameters": {"weights": weights} | parameters} | more


def _run(perplexity: float) -> dict[str, Any]:
    made = _figures(perplexity)
    return {"perplexity_token": made.pop("perplexity"), **made}


def _breakdowns() -> dict[str, Any]:
    frequencies = (
        ("unseen", 0, 0, 1.4e6),
        ("1-9", 1, 9, 21_000.0),
        ("10-99", 10, 99, 2_410.0),
        ("100-999", 100, 999, 302.5),
    )
    frequencies += (("1,000-9,999", 1000, 9999, 61.4), ("10,000 and more", 10_000, None, 8.37))
    return {
        "frequency": [
            _part(ppl, number, name=name, low=low, high=high) for number, (name, low, high, ppl) in enumerate(frequencies)
        ],
        "class": [
            _part(ppl, number, name=name)
            for number, (name, ppl) in enumerate(
                (("word", 131.2), ("number", 410.0), ("punctuation", 7.3), ("end", 3.2), ("unknown", 31.0), ("other", 55.5))
            )
        ],
        "position": [
            _part(60 + 700 * 2.0**-octave, octave, low=2**octave, high=2 ** (octave + 1) - 1) for octave in range(13)
        ],
        "documents": {
            "count": 62,
            **{
                kind: [_part(ppl + place, 3, number=5 * place + 1, begins=HOSTILE[place][:60]) for place in range(5)]
                for kind, ppl in (("best", 51.0), ("worst", 140.0))
            },
        },
        "worst_tokens": [
            {
                "token": HOSTILE[place % len(HOSTILE)],
                "bits": 31.5 - place / 4,
                "rank": 33_000 - 100 * place,
                "guess": " the" if place % 2 else HOSTILE[place % 7],
                "confidence": 0.04 * place,
                "before": f"{HOSTILE[(place + 3) % len(HOSTILE)]} before it"[-60:],
                "position": 1000 + place,
            }
            for place in range(20)
        ],
    }


def _part(perplexity: float, rarity: int, **more: Any) -> dict[str, Any]:
    tokens = 60_000 // (rarity + 1)
    return {
        "tokens": tokens,
        "nll_nats": tokens * math.log(perplexity),
        "perplexity": perplexity,
        "share": tokens / TOKENS,
        **more,
    }


def _training() -> dict[str, Any]:
    def loss(seconds: float) -> float:
        return 4.45 + 5.9 * math.exp(-((seconds / 20) ** 0.5))

    return {
        "curve": [
            {"seconds": 30.0 * k, "step": 150 * k, "tokens": 240_000 * k, "loss": loss(30 * k) + 0.05} for k in range(1, 21)
        ],
        "steps": [{"seconds": 3.0 * k, "step": 15 * k, "loss": loss(3 * k) + 0.08 * math.sin(k * k)} for k in range(200)],
        "options": {"optimizer": "adamw", "learning_rate": 0.002, "dropout": [0.2, 0.5], "hidden": 512, "note": HOSTILE[1]},
        "sampled": False,
    }


def full_comparison(nats: tuple[list[float], ...], kind: str = "documents") -> dict[str, Any]:
    """One-run models on the same text, whose clusters of 10, 20, 30... words cost them `nats`."""
    clusters, found = len(nats[0]), [_compared(number, nats_C) for number, nats_C in enumerate(nats)]
    words = [10 * (place + 1) for place in range(clusters)]
    return {
        "schema": "lstmlm.compare/1",
        "text": {
            "paths": ["wikitext-2", HOSTILE[0]],
            "split": "valid",
            "sha256": "cd" * 32,
            "bytes": 6 * sum(words),
            "chars": 6 * sum(words),
            "words": sum(words),
            "lines": 100,
            "documents": 1,
        },
        "protocol": {"mode": "stream", "documents": "file", "precision": "fp32", "approximate": False},
        "clusters": {"kind": kind, "count": clusters, "bytes": [6 * count for count in words], "words": words},
        "models": found,
        "comparisons": [_pair(number, nats[number], nats[0]) for number in range(1, len(nats))],
        "method": {"interval": "paired bootstrap", "draws": 2000, "seed": 1, "test": "sign flips", "level": 0.05},
        "training": None,
        "warnings": [],
        "provenance": {
            "command": f"lstmlm compare a b {HOSTILE[0]}",
            "date": "2026-11-28",
            "versions": {"lstmlm": "0.6", "torch": "2.13.0"},
            "machine": {"system": "Linux", "cores": 2},
            "text_sha256": "cd" * 32,
        },
    }


def _compared(number: int, nats_C: list[float]) -> dict[str, Any]:
    figures = {"perplexity_token": 80.5 + number, "perplexity_word": 90.5 + number, "bits_per_byte": 1.25}
    run = {"path": f"checkpoints/{number}", "sha256": f"{number}e" * 32, "seed": number, "nll_nats": sum(nats_C)}
    return {
        "name": f"checkpoints/{number}",
        "tokenizer": "word",
        "vocabulary_size": 33_278,
        "tokenizer_fingerprint": "12" * 32,
        "lossless": False,
        "parameters": 1_000_000,
        "tokens": 100_000,
        "tokens_unknown": 0,
        "nll_nats": sum(nats_C),
        "cluster_tokens": [100] * len(nats_C),
        "cluster_nats": nats_C,
        "runs": [run | figures],
        "mean": figures,
        "sd": None,
    }


def _pair(number: int, nats_C: list[float], reference_C: list[float]) -> dict[str, Any]:
    return {
        "model": number,
        "reference": 0,
        "unit": "nats per token",
        "denominator": 100_000,
        "delta": (sum(nats_C) - sum(reference_C)) / 100_000,
        "confidence95": [-0.01, 0.02] if len(nats_C) > 1 else None,
        "p": 1.0,
        "flips": 2 ** len(nats_C),
        "exact": True,
        "p_holm": None,
        "wins": sum(mine < its for mine, its in zip(nats_C, reference_C, strict=True)),
        "ties": 0,
        "win_rate": 0.5,
        "perplexity": {"per": "token", "change": 0.01, "confidence95": None},
        "verdict": "not distinguished",
    }
