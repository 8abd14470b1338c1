"""The site of deploy/compose.yaml: images that it builds, and the secrets that it needs."""
