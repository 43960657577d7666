"""`lstmlm tune`: the parameters of a model's memory."""

from __future__ import annotations

from contextlib import nullcontext

import click

from lstmlm.cli.console import errors_console, program, say


@click.command("tune", short_help="Fit cache, dynamic evaluation and n-grams to a model.")
@click.argument("model", metavar="MODEL")
@click.option("--order", default=5, show_default=True, type=click.IntRange(1, 12), help="Tokens of the longest n-gram.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.")
def tune_command(model: str, order: int, threads: int | None) -> None:
    """Fit to MODEL, on its validation text, what makes it remember what it reads.

    A neural cache, dynamic evaluation, n-grams of the training text, and the weights with which they are mixed. All is kept
    in the model's directory; `lstmlm eval MODEL --cache --dynamic --ngram` shows what it is worth.
    """
    from lstmlm.adaptation import save_adaptation
    from lstmlm.checkpoint import RUN_FILE, load_model
    from lstmlm.report.formatting import setting
    from lstmlm.runtime import keep_freed_memory, set_threads
    from lstmlm.storage import check_writable, lock, refuse_if_locked
    from lstmlm.tuning import Doing, Tried, tune

    set_threads(threads)
    keep_freed_memory()
    loaded = load_model(model)
    check_writable(loaded.path)
    run = loaded.path.resolve().parent
    in_run = (run / RUN_FILE).exists()
    if in_run:
        refuse_if_locked(run)
    console = errors_console()
    with console.status("") as status:
        for event in tune(loaded, order=order):
            if isinstance(event, Doing):
                status.update(event.what)
            elif isinstance(event, Tried):
                tried = "  ".join(f"{name.replace('_', ' ')} {setting(value)}" for name, value in event.setting.items())
                console.print(f"{event.row:<20}perplexity {event.perplexity:8.2f}  {tried}")
            else:
                with lock(run) if in_run else nullcontext():  # training may have gone on in the meantime
                    save_adaptation(loaded, event.adaptation)
                tokens, dynamic = (event.adaptation.tuned_on[name] for name in ("tokens", "tokens_dynamic"))
                part = f"{tokens:,} tokens of the validation text ({dynamic:,} dynamically)"
                console.print(f"tuned in {event.seconds:.0f} s, on {part}")
    say(f"\nNow see what it is worth:  {program()} eval {model} --cache --dynamic --ngram")
