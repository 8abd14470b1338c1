"""A site on the command line, the same for every program about it."""

import argparse
from dataclasses import fields
from pathlib import Path

from deploy.nginx.site import Site

_NUMBERS = {
    "https_port": "port to serve at",
    "http_port": "port that sends browsers to https; 0 for none",
    "max_body_bytes": "largest body, as service.max_body_bytes",
    "max_file_bytes": "largest file in a form, as service.max_file_bytes",
    "score_timeout_s": "seconds that an instance may take, more than service.timeout_s and any decoder_timeout_s",
    "batch_timeout_s": "the same for a batch",
    "requests_per_s": "requests a second of one key, or of one address without a key",
    "burst": "requests that may come at once before that rate counts",
}


def add_site_options(parser: argparse.ArgumentParser) -> None:
    """Every option of a site; those without a default are required."""
    defaults = {each.name: each.default for each in fields(Site)}
    parser.add_argument("--folder", type=Path, required=True, help="where configuration, logs and process id lie")
    parser.add_argument("--server-name", action="append", required=True, help="a host to answer for; may be repeated")
    parser.add_argument("--instance", action="append", required=True, metavar="HOST:PORT", help="may be repeated")
    parser.add_argument("--certificate", type=Path, required=True, help="PEM, with the chain")
    parser.add_argument("--private-key", type=Path, required=True, help="PEM")
    parser.add_argument("--static", type=Path, default=defaults["static_folder"], help="the page's files (%(default)s)")
    parser.add_argument("--user", default=defaults["user"], help="as whom to answer (%(default)s); '' where not root")
    for name, text in _NUMBERS.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=defaults[name], help=f"{text} (%(default)s)")


def site_of(options: argparse.Namespace) -> Site:
    """The site that was described."""
    return Site(
        folder=options.folder.absolute(),
        server_names=tuple(options.server_name),
        instances=tuple(options.instance),
        certificate_file=options.certificate.absolute(),
        private_key_file=options.private_key.absolute(),
        static_folder=options.static.absolute(),
        user=options.user or None,
        https_port=options.https_port,
        http_port=options.http_port or None,
        max_body_bytes=options.max_body_bytes,
        max_file_bytes=options.max_file_bytes,
        score_timeout_s=options.score_timeout_s,
        batch_timeout_s=options.batch_timeout_s,
        requests_per_s=options.requests_per_s,
        burst=options.burst,
    )
