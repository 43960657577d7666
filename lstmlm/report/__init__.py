"""Figures -> something to look at; `terminal` draws with rich."""
