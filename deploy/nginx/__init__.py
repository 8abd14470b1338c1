"""nginx before the service: TLS, static files, limits, a log without contents, and no traffic to the unready."""
