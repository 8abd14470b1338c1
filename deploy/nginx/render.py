"""Writes nginx's configuration for a site: `python -m deploy.nginx.render --help`."""

import argparse
import sys

from deploy.nginx.options import add_site_options, site_of
from deploy.nginx.site import write_site
from essays.console import EXIT_DONE, say


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.nginx.render", description="Write nginx's configuration.")
    add_site_options(parser)
    site = site_of(parser.parse_args())
    write_site(site)
    say(f"wrote {site.config_file}; check it: nginx -t -c {site.config_file}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
