"""Corpora coming in: fetched, checked, tabulated, folded. Never imports torch."""
