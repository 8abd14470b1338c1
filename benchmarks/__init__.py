"""Peers side by side, measured the same way."""
