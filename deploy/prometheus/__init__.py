"""Prometheus before the service: what it asks, which alerts it raises, how it runs on this machine."""
