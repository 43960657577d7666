from __future__ import annotations

import ctypes
import signal

import pytest
import torch

from lstmlm.config import RuntimeConfig
from lstmlm.errors import StoppedError, UsageError
from lstmlm.runtime import StopRequest, choose_runtime, keep_freed_memory, one_thread, stop_on_signals, versions


def test_float32_where_it_is_asked_for() -> None:
    runtime = choose_runtime(RuntimeConfig(device="cpu", precision="fp32"), "lstm")
    assert (runtime.device.type, runtime.precision) == ("cpu", "fp32")
    with runtime.step_precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_no_bf16_where_it_would_leave_the_fused_path(cell: str) -> None:
    assert choose_runtime(RuntimeConfig(device="cpu"), cell).precision == "fp32"
    with pytest.raises(UsageError, match=f"{cell}.*fp32"):
        choose_runtime(RuntimeConfig(device="cpu", precision="bf16"), cell)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": False, "avx2": True}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_bf16_only_on_a_cpu_that_has_it(
    capabilities: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_runtime(RuntimeConfig(device="cpu"), "lstm").precision == expected
    if expected == "fp32":
        with pytest.raises(UsageError, match="no bf16"):
            choose_runtime(RuntimeConfig(device="cpu", precision="bf16"), "lstm")


def test_bf16_multiplies_in_bf16_and_only_within_a_step() -> None:
    runtime = choose_runtime(RuntimeConfig(device="cpu"), "lstm")
    if runtime.precision != "bf16":
        pytest.skip(runtime.reason)
    with runtime.step_precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_runtime(RuntimeConfig(), "lstm").device.type == "cpu"
    with pytest.raises(UsageError, match="CUDA"):
        choose_runtime(RuntimeConfig(device="cuda"), "lstm")


def test_threads_are_set_on_request() -> None:
    choose_runtime(RuntimeConfig(device="cpu", threads=2), "lstm")
    assert torch.get_num_threads() == 2
    choose_runtime(RuntimeConfig(device="cpu", threads=None), "lstm")
    assert torch.get_num_threads() == 2


def test_one_thread_within_the_block_only() -> None:
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with one_thread(wanted=False):
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyboardInterrupt), one_thread():
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_only_asks_and_old_handlers_come_back(number: signal.Signals, code: int) -> None:
    before = [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signals() as stop:
        stop.check()
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        with pytest.raises(StoppedError, match=number.name) as raised:
            stop.check()
        assert raised.value.exit_code == code
    assert [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)] == before


def test_nothing_stops_unasked() -> None:
    stop = StopRequest()
    stop.check()
    assert stop.signal_number is None


def test_versions_say_what_a_figure_depends_on() -> None:
    found = versions()
    assert found["torch"] == torch.__version__
    assert {"lstmlm", "torch", "python", "machine"} <= found.keys()
    assert all(found.values())


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    asked: list[object] = []

    def no_library(name: object) -> object:
        asked.append(name)
        raise error

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    keep_freed_memory()
    assert asked == [None]
