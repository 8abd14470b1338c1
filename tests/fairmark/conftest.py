"""The small models of the service's tests, served on loopback, and essays that differ."""

from collections.abc import Iterator

import pytest

from serving.desk import Desk
from tests.page_server import page_served
from tests.serving.conftest import artifacts, bundles, desk, trait_artifacts, trait_desk

__all__ = ["artifacts", "bundles", "desk", "trait_artifacts", "trait_desk"]

ESSAY = (
    "My school is small, and I like it. The teachers know every pupil by name, so when somebody is sad they see it."
    " However we have no laboratory, and I want to learn chemistry. People say a big school has more to offer."
)


@pytest.fixture(scope="session")
def address(desk: Desk) -> Iterator[str]:
    """Where the service answers."""
    with page_served(desk) as url:
        yield url


@pytest.fixture(scope="session")
def essay() -> str:
    """One that can be scored."""
    return ESSAY
