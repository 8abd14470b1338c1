"""A real server on loopback with the small models."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from serving.desk import Desk
from serving.routes import create_app
from serving.swagger import swagger_folder


@pytest.fixture(scope="session")
def page_address(desk: Desk) -> Iterator[str]:
    """Where the page is served."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(lambda: desk, swagger_folder()), log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()
