"""Figures -> something to look at: `sections` says what stands in a report, `terminal` and `markdown` draw it."""
