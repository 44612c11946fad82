"""An HTTP server on this machine, whole and broken answers, and its visitors."""

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlunsplit

import torch
from torch import distributed

from projects.sam2.checkpoints import read_checkpoint_url

# Longer than any test runs: a process that waits for another one is found waiting.
TIMEOUT = timedelta(seconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressServer:
    """A running server.

    Attributes:
        url: Its address, with a slash.
        answers: Content by file name; may be changed.
        missing: Bytes that are announced and never sent.
        requested: File names that were requested.
    """

    url: str
    answers: dict[str, bytes]
    missing: dict[str, int] = field(default_factory=dict)
    requested: list[str] = field(default_factory=list)


@contextmanager
def serve(answers: Mapping[str, bytes]) -> Iterator[AddressServer]:
    """Answer requests until the block ends.

    Args:
        answers: Content by file name; all else is a 404.
    """
    http = ThreadingHTTPServer(('127.0.0.1', 0), _Handler)
    http.daemon_threads = False  # they are waited for at the end
    place = f'127.0.0.1:{http.server_port}'
    url = urlunsplit(('http', place, '/', '', ''))
    _Handler.server_of[http.server_port] = server = AddressServer(
        url=url, answers=dict(answers)
    )
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def read_on_ranks(argument: Mapping[str, Any], _launcher: str) -> None:
    """Read a checkpoint on some processes of a group; for ``call_in_processes``.

    Args:
        argument: ``url``, ``hub`` (folder of the cache) and ``ranks``.
    """
    os.environ['no_proxy'] = '127.0.0.1'
    torch.hub.set_dir(argument['hub'])
    distributed.init_process_group('gloo', timeout=TIMEOUT)
    # All begin at once.
    distributed.barrier()
    if distributed.get_rank() in argument['ranks']:
        read_checkpoint_url(argument['url'])
    distributed.destroy_process_group()


class _Handler(BaseHTTPRequestHandler):
    """Looks up what its server answers."""

    server_of: dict[int, AddressServer] = {}  # noqa: RUF012  shared on purpose

    def do_GET(self) -> None:
        """Send a file, or a part of it."""
        server = self.server_of[self.server.server_port]  # type: ignore[attr-defined]
        name = self.path.removeprefix('/')
        server.requested.append(name)
        if name not in server.answers:
            self.send_error(404)
            return
        content = server.answers[name]
        self.send_response(200)
        self.send_header(
            'Content-Length', str(len(content) + server.missing.get(name, 0))
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
