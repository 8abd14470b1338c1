"""Keeps requests from instances that are not ready: asks `/readyz` of each, and tells nginx who is to be spared.

nginx itself learns only from requests that fail. So an instance that hangs would make one request slow each time that
it is tried again, and one that is asked to end would be tried until it says no. This program asks beside the traffic.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from deploy.nginx.options import add_site_options, site_of
from deploy.nginx.program import reload
from deploy.nginx.site import Site, write_instances
from deploy.service import answers_ready
from essays.console import EXIT_DONE, say

EVERY_S = 0.5
PATIENCE_S = 1.0
MISSES = 2
"""So many times in a row an instance must not be ready, so that one slow answer takes nobody away."""


class Watch:
    """What is known of each instance."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.unready: frozenset[str] = frozenset()
        self._misses = dict.fromkeys(site.instances, 0)

    def look(self) -> None:
        """Ask every instance once, and tell nginx where somebody came or went."""
        with ThreadPoolExecutor(max_workers=len(self.site.instances)) as threads:
            answers = threads.map(lambda instance: answers_ready(f"http://{instance}", PATIENCE_S), self.site.instances)
            ready = dict(zip(self.site.instances, answers, strict=True))
        for instance, answer in ready.items():
            self._misses[instance] = 0 if answer else self._misses[instance] + 1
        unready = frozenset(instance for instance, misses in self._misses.items() if misses >= MISSES)
        if unready != self.unready:
            self._tell(unready)

    def run(self, stop: threading.Event) -> None:
        """Until asked to stop."""
        while not stop.wait(EVERY_S):
            self.look()

    def _tell(self, unready: frozenset[str]) -> None:
        for word, instances in (("not ready", unready - self.unready), ("ready again", self.unready - unready)):
            _say_each(word, instances)
        write_instances(self.site, unready)
        reload(self.site)
        self.unready = unready


@contextmanager
def watching(site: Site) -> Iterator[Watch]:
    """A watch in a thread, while the block lasts."""
    watch, stop = Watch(site), threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,), name="watch")
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()


def _say_each(word: str, instances: Iterable[str]) -> None:
    for instance in sorted(instances):
        say(f"nginx: {instance} is {word}")


def main() -> int:
    """The command line: runs until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m deploy.nginx.watch", description="Spare instances not ready.")
    add_site_options(parser)
    site, stop = site_of(parser.parse_args()), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    Watch(site).run(stop)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
