"""The container image: what `bentoml containerize` makes, built with Docker or, without its daemon, with buildah."""
