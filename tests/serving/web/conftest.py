"""A real server on loopback with the small models."""

from collections.abc import Iterator

import pytest

from serving.desk import Desk
from tests.page_server import page_served


@pytest.fixture(scope="session")
def page_address(desk: Desk) -> Iterator[str]:
    """Where the page is served."""
    with page_served(desk) as address:
        yield address
