"""An HTTP server on this machine, whole and broken answers, and its visitors."""

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlunsplit

import torch
from torch import distributed

from projects.sam2.checkpoints import read_checkpoint_url

# Longer than any test runs: a process that waits for another one is found waiting.
TIMEOUT = timedelta(seconds=20)


class Ranges(Enum):
    """What a server does when it is asked for a part of a file."""

    SENT = 'sends it'
    IGNORED = 'sends the whole file'
    REFUSED = 'answers 416'


@dataclass(slots=True, kw_only=True)
class AddressServer:
    """A running server.

    Attributes:
        url: Its address, with a slash.
        answers: Content by file name; may be changed.
        missing: Bytes that are announced and never sent.
        cuts: Byte of the file at which each of the next connections breaks off.
        headers: Headers of all answers; None leaves a usual one out.
        ranges: Whether a part of a file is sent when asked for, or refused.
        requested: File names that were requested.
        starts: Where the parts began that were sent; 0 for whole files.
    """

    url: str
    answers: dict[str, bytes]
    missing: dict[str, int] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    headers: dict[str, str | None] = field(default_factory=dict)
    ranges: Ranges = Ranges.SENT
    requested: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)


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
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
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
        tag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        wanted = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        start = int(wanted[1]) if wanted else 0
        refuses = server.ranges is Ranges.REFUSED or start >= len(content)
        if start and refuses:
            self.send_error(416)
            return
        if server.ranges is Ranges.IGNORED:
            start = 0
        server.starts.append(start)
        total = len(content) + server.missing.get(name, 0)
        headers: dict[str, str | None] = {
            'Content-Length': str(total - start),
            'Content-Range': f'bytes {start}-{total - 1}/{total}' if start else None,
            'ETag': tag,
        }
        self.send_response(206 if start else 200)
        for header, value in (headers | server.headers).items():
            if value is not None:
                self.send_header(header, value)
        self.end_headers()
        end = server.cuts.pop(0) if server.cuts else len(content)
        with suppress(ConnectionError):  # the visitor has left
            self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        """Say nothing."""
