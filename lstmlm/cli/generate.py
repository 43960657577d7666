"""`lstmlm generate`: let a model write on."""

from __future__ import annotations

import click

from lstmlm.cli.console import safe, write
from lstmlm.config import SamplingConfig


@click.command("generate", short_help="Let a model write on.")
@click.argument("model", metavar="MODEL")
@click.argument("prompt", default="")
@click.option(
    "--max-tokens", type=click.IntRange(min=0), default=100, show_default=True, help="Where it ends at the latest."
)
@click.option(
    "--temperature", type=float, default=SamplingConfig.temperature, show_default=True, help="0: always the likeliest."
)
@click.option("--top-k", type=int, default=SamplingConfig.top_k, show_default=True, help="Only the K likeliest; 0: all.")
@click.option(
    "--top-p", type=float, default=SamplingConfig.top_p, show_default=True, help="Only the likeliest that reach P."
)
@click.option(
    "--min-p", type=float, default=SamplingConfig.min_p, show_default=True, help="Only those P times the likeliest."
)
@click.option(
    "--repetition-penalty",
    type=float,
    default=SamplingConfig.repetition_penalty,
    show_default=True,
    help="Above 1: what has occurred becomes less likely.",
)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be given several times.")
@click.option("--seed", type=int, help="The same seed gives the same text.")
@click.option("-n", "samples", type=click.IntRange(min=1), default=1, show_default=True, help="How many texts.")
def generate_command(
    model: str,
    prompt: str,
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    repetition_penalty: float,
    stop: tuple[str, ...],
    seed: int | None,
    samples: int,
) -> None:
    """Continue PROMPT; it is printed first, and the text appears as it is written.

    Filters are applied in this order: repetition penalty, temperature, top-k, top-p, min-p. Several samples are separated
    by a line of three dashes; sample i of seed S is that of seed S + i.
    """
    config = SamplingConfig(
        repetition_penalty=repetition_penalty, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    from lstmlm.checkpoint import load_model
    from lstmlm.generation import Session

    session = Session(load_model(model))
    for sample in range(samples):
        if sample:
            write("---\n")
        write(safe(prompt))
        chosen = None if seed is None else seed + sample
        for piece in session.write(prompt, config, max_tokens=max_tokens, stop=stop, seed=chosen):
            write(safe(piece))
        write("\n")
