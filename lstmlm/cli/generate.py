"""`lstmlm generate`: let a model write on, or every line of stdin."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import click

from lstmlm.cli.console import safe, stdin_lines, write
from lstmlm.cli.predicting_options import memory_options
from lstmlm.cli.sampling_options import sampling_options
from lstmlm.config import BeamConfig, SamplingConfig


@click.command("generate", short_help="Let a model write on.")
@click.argument("model", metavar="MODEL")
@click.argument("prompt", default="")
@click.option(
    "--max-tokens", type=click.IntRange(min=0), default=100, show_default=True, help="Where it ends at the latest."
)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given several times.")
@sampling_options
@click.option("--seed", type=int, help="The same seed gives the same text.")
@click.option("-n", "n", type=click.IntRange(min=1), default=1, show_default=True, help="How many texts.")
@click.option("--beams", type=int, help="Do not draw: search for the likeliest whole texts, along N paths.")
@click.option(
    "--length-penalty",
    type=float,
    help="The power of the length by which ln p of a text found by --beams is divided.  "
    f"[default: {BeamConfig.length_penalty}]",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "jsonl"]),
    help="json: readable.  [default: text, for - jsonl]",
)
@memory_options
@click.option("--logprobs", type=int, default=0, show_default=True, help="In JSON, the K likeliest in place of each token.")
def generate_command(
    model: str,
    prompt: str,
    max_tokens: int,
    stop: tuple[str, ...],
    seed: int | None,
    n: int,
    beams: int | None,
    length_penalty: float | None,
    style: str | None,
    logprobs: int,
    parts: tuple[str, ...],
    **sampling: Any,
) -> None:
    """Continue PROMPT; it is printed first, and the text appears as it is written. With - for PROMPT, every line of stdin is
    one, answered at once; trailing spaces count.

    Penalties look at all tokens so far, those of PROMPT included. What is asked for is applied in this order: repetition,
    frequency and presence penalty, no repeated n-grams, temperature, top-k, top-p, min-p, typical-p, epsilon and eta cutoff.

    Several texts are separated by a line of three dashes; text i of seed S is that of seed S + i. Those of --beams are
    ordered by their rank.

    JSON: {"prompt", "seed", "samples": [{"text", "finish_reason": "stop", "length" or "eos", "logprob", "tokens": [{"token",
    "logprob", "top": [{"token", "logprob"}]}]}]}, where the logarithms are natural ones and the probabilities those of the
    model itself, before penalties, temperature and filters.
    """
    config, beam = SamplingConfig(**sampling), None
    if beams is not None:
        if seed is not None or config != SamplingConfig(no_repeat_ngram_size=config.no_repeat_ngram_size):
            raise click.UsageError("--beams does not draw; expected no seed, penalties, temperature or filters beside it")
        penalty = BeamConfig.length_penalty if length_penalty is None else length_penalty
        beam = BeamConfig(beams=beams, length_penalty=penalty, no_repeat_ngram_size=config.no_repeat_ngram_size)
    elif length_penalty is not None:
        raise click.UsageError("--length-penalty ranks what --beams finds; expected both")
    style = style or ("jsonl" if prompt == "-" else "text")
    if style == "text" and prompt == "-":
        raise click.UsageError("a text may have several lines; expected --format json or jsonl for -")
    if style == "text" and logprobs:
        raise click.UsageError("--logprobs are part of JSON; expected --format json or jsonl")

    from lstmlm.beam import beam_search
    from lstmlm.generation import Session
    from lstmlm.predictor import load_any, open_predictor

    session = Session(open_predictor(load_any(model), parts))

    def pieces(prompt: str) -> Iterator[Iterable[str]]:
        if beam is not None:
            yield from ([found.text] for found in beam_search(session, prompt, beam, n=n, max_tokens=max_tokens, stop=stop))
            return
        for number in range(n):
            chosen = None if seed is None else seed + number
            yield session.write(prompt, config, max_tokens=max_tokens, stop=stop, seed=chosen)

    def answer(prompt: str) -> dict[str, Any]:
        limits: dict[str, Any] = {"max_tokens": max_tokens, "stop": stop, "logprobs": logprobs}
        if beam is not None:
            first, samples = None, beam_search(session, prompt, beam, n=n, **limits)
        else:
            first = secrets.randbits(32) if seed is None else seed
            samples = [session.sample(prompt, config, seed=first + number, **limits) for number in range(n)]
        return {"prompt": prompt, "seed": first, "samples": [sample.to_mapping() for sample in samples]}

    if style == "text":
        for number, text in enumerate(pieces(prompt)):
            write("---\n" if number else "")
            write(safe(prompt))
            for piece in text:
                write(safe(piece))
            write("\n")
        return
    for line in stdin_lines() if prompt == "-" else [prompt]:
        write(safe(json.dumps(answer(line), ensure_ascii=False, indent=2 if style == "json" else None) + "\n"))
