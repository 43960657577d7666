"""Numbers and text as every report writes them."""

from __future__ import annotations

import math

from lstmlm.report.formatting import (
    counted,
    digits_over,
    figure,
    interval,
    nats,
    one_line,
    percent,
    setting,
    settings,
    token_text,
    visible,
)


def test_numbers() -> None:
    assert [figure(value) for value in (None, 1.005, 9999.994, 12345.6, 3.3e9, float("inf"))] == [
        "",
        "1.00",
        "9,999.99",
        "12,346",
        "3.3e+09",
        "",
    ]
    assert interval([1.5, 2.25]) == "1.50 to 2.25"
    assert interval(None) == ""
    assert [nats(99999.94), nats(100000.4), nats(None)] == ["99,999.9", "100,000", ""]
    assert [nats(1.0, 3), digits_over(1.0, None), digits_over(3 * math.log(135.75), 3)] == ["1.000", None, 4]
    assert [counted(1, "blocks of lines"), counted(2, "blocks of lines"), counted(1, "documents")] == [
        "1 block of lines",
        "2 blocks of lines",
        "1 document",
    ]
    assert percent(0.12345) == "12.3%"
    assert [setting(value) for value in (2000, 0.0625, True, "sgd", [1, 2])] == ["2,000", "0.0625", "True", "sgd", "1 2"]
    assert [setting(value) for value in (1200.0, 999.6, 99.6, 2e-5, 1e18)] == ["1,200", "1,000", "99.6", "2e-05", "1e+18"]
    assert settings({"seed": 20261128, "batch_size": 2000}) == "seed 20261128, batch size 2,000"


def test_text() -> None:
    assert visible("a\x1b[2J\u202eb\n\t") == "a\\x1b[2J\\u202eb\n\t"
    assert one_line("a\nb\tc") == "a↵b⇥c"
    assert [token_text(token) for token in (" the", "  ", "a b ", "\n", "")] == ["␣the", "␣␣", "a b␣", "↵", ""]
