"""The core: what training and serving must agree on. Never imports torch."""
