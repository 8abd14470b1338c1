"""The client: `fairmark` on the command line, `fairmark.client.Client` in Python, over the service's HTTP API.

Installed alone (`pip install .`) it needs no model, no numpy and nothing of training or serving.
"""
