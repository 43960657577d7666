"""The machine: device, precision, threads, determinism, signals."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import torch

from lstmlm.config import RuntimeConfig
from lstmlm.errors import StoppedError, UsageError


@dataclass(frozen=True)
class Runtime:
    """Where and how the arithmetic runs, decided once."""

    device: torch.device
    precision: str
    """`fp32`, or `bf16` for the matrix products of a training step; evaluation is float32 always."""
    reason: str
    """Why this precision, for the run header."""

    @property
    def asynchronous(self) -> bool:
        """Whether the device works on its own, so that to ask for a number is to wait for it."""
        return self.device.type != "cpu"

    @contextmanager
    def step_precision(self) -> Iterator[None]:
        """Autocast for forward passes in training; master weights, normalizers and sums stay float32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            yield


def choose_runtime(config: RuntimeConfig, cell: str) -> Runtime:
    """Settle device, threads and precision for this process.

    `bf16` is chosen where the hardware multiplies in it and the cell has a fused kernel for it: off that path it is a
    hundred times slower (on a CPU only the LSTM has one).

    Raises:
        UsageError: a device or precision was asked for that this machine or cell does not have.
    """
    set_threads(config.threads)
    cuda = torch.cuda.is_available()
    if config.device == "cuda" and not cuda:
        raise UsageError("no CUDA device is available; use --device cpu")
    device = torch.device("cuda" if cuda and config.device != "cpu" else "cpu")
    able, reason = _bf16_support(device, cell)
    if config.precision == "bf16" and not able:
        raise UsageError(f"bf16 would not run on a fused path: {reason}; use --precision fp32")
    if config.precision == "fp32":
        return Runtime(device, "fp32", "asked for")
    return Runtime(device, "bf16" if able else "fp32", reason)


def keep_freed_memory() -> None:
    """Let the C library keep what a training step frees for the next one (where it is glibc; elsewhere nothing happens).

    By default large blocks go back to the kernel at every step, which then clears each page anew: the fused LSTM of a
    window of 48 x 40 tokens takes 1.5 times as long (`benchmarks/RESULTS.md`).
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def set_threads(count: int | None) -> None:
    """Use `count` CPU threads; `None` leaves it to torch."""
    if count is not None:
        torch.set_num_threads(count)


def _bf16_support(device: torch.device, cell: str) -> tuple[bool, str]:
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
        return able, "the GPU multiplies in bf16" if able else "the GPU has no bf16"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False, "this torch has no oneDNN"
    if cell != "lstm":
        return False, f"{cell} has no fused bf16 kernel on a CPU"
    able = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return able, "the CPU multiplies in bf16" if able else "the CPU has no bf16 instructions"


@contextmanager
def one_thread(wanted: bool = True) -> Iterator[None]:
    """Within the block, one CPU thread (if `wanted`): for steps of one or few streams.

    Such a step is over in a tenth of a millisecond, of which two threads save half on an idle machine. On a busy one they
    wait for each other at every step: measured, 123 tokens/s where one thread makes 14,000 (1 x 512, 2 cores).
    """
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def versions() -> dict[str, str]:
    """What a figure depends on besides the code, for `run.json` and reports."""
    from lstmlm import __version__

    return {
        "lstmlm": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }


def keep_what_is_loaded() -> None:
    """Take modules and models out of the garbage collector's sight, which looks through them again and again (80 ms)."""
    gc.collect()
    gc.freeze()


class StopRequest:
    """Set by SIGINT and SIGTERM; long work polls it between two steps."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    @property
    def requested(self) -> bool:
        return self.signal_number is not None

    def check(self) -> None:
        """Raise `StoppedError` if a stop was requested."""
        if self.signal_number is not None:
            raise StoppedError(f"stopped by {signal.Signals(self.signal_number).name}", self.signal_number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within the block the first SIGINT or SIGTERM only sets the request; a second SIGINT ends the process at once."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if request.requested and number == signal.SIGINT:
            if os.isatty(2):
                os.write(2, b"\x1b[?25h")  # a progress display may have hidden the cursor
            os._exit(128 + number)
        request.signal_number = number

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
