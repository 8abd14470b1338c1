"""nginx for a site with its watch, in the foreground: what its container runs. `python -m deploy.nginx --help`."""

import argparse
import os
import signal
import sys
import threading

from deploy.nginx.options import add_site_options, site_of
from deploy.nginx.program import nginx_running
from deploy.nginx.site import write_site
from deploy.nginx.watch import watching
from deploy.processes import UpFailed
from essays.console import EXIT_DONE, EXIT_FAILED, say

_LOOK_S = 0.5


def main() -> int:
    """The command line: runs until a signal ends it, 0, or nginx ends, 1."""
    parser = argparse.ArgumentParser(prog="python -m deploy.nginx", description="nginx before instances, watched.")
    add_site_options(parser)
    site, stop = site_of(parser.parse_args()), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        write_site(site)
        with nginx_running(site, os.environ) as nginx, watching(site):
            say(f"nginx: serving {', '.join(site.server_names)} at port {site.https_port}")
            while not stop.wait(_LOOK_S):
                if (code := nginx.poll()) is not None:
                    raise UpFailed(f"nginx ended by itself with code {code}; see {site.folder / 'error.log'}")
    except UpFailed as error:
        say(f"error: {error}")
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
