"""Synthetic essays: what they are, which parents get some, and which are fit to train on. Never dev or test data."""
