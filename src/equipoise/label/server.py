"""The labelling page's server: on 127.0.0.1 alone, at an address with a random token."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from contextlib import suppress

import uvicorn

from equipoise.label.desk import Desk
from equipoise.label.errors import LabelError
from equipoise.label.guard import HOST
from equipoise.label.site import application


class Page:
    """A page that is served; its address is known before it answers.

    Raises LabelError if the port cannot be used.
    """

    def __init__(self, desk: Desk, port: int = 0, rater: str | None = None) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
            self._socket.listen()  # a port that another server listens at is refused here
        except OSError as error:
            self._socket.close()
            raise LabelError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); choose another with --port"
            ) from error
        token, self.port = secrets.token_urlsafe(24), self._socket.getsockname()[1]
        self.address = f"http://{HOST}:{self.port}/{token}/"
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(desk, token, self.port, rater),
                log_level="error",
                access_log=False,  # the address holds the token
                proxy_headers=False,
                server_header=False,
                ws="none",
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )

    def serve(self) -> None:
        """Answer until the process is interrupted."""
        with suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])

    def start(self) -> None:
        """Answer in a thread of its own, which ends with the process or with `stop`."""
        self._thread = threading.Thread(target=self.serve, name="labelling page", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    def stop(self) -> None:
        """End the thread, and close the port."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
