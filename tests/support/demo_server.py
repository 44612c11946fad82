"""Runs the demo's server in a thread, and talks to it as pages do."""

import json
import signal
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx
import uvicorn
from websockets.sync.client import ClientConnection, connect

from projects.sam2.installation import WEIGHTS
from projects.sam2.ops import EncodedMask
from projects.sam2.webdemo.server.app import DemoOptions, create_app
from projects.sam2.webdemo.server.protocol import MAX_DRAWING

MINI_CONFIG = '_base_/models/sam2_1_mini.py'
MINI_WEIGHTS = WEIGHTS / 'sam2_mini.pth'
WAIT = 30.0  # seconds, for any answer
Message = dict[str, Any]


class Masks(NamedTuple):
    """A binary message of masks.

    Attributes:
        kind: 1 for the objects of a frame, 2 for proposals.
        frame: The frame.
        size: Height and width.
        revision: Of the document.
        codes: The masks, by object.
        scores: Their scores, by object.
        flags: 1 for prompted, 2 for locked.
    """

    kind: int
    frame: int
    size: tuple[int, int]
    revision: int
    codes: dict[int, EncodedMask]
    scores: dict[int, float]
    flags: dict[int, int]


class Scores(NamedTuple):
    """A binary message of scores."""

    number: int
    scores: bytes
    revision: int


def read_binary(packed: bytes) -> Masks | Scores:
    """Read a binary message by its description, without the package."""
    _, kind, _, frame, *size, count, revision = struct.unpack_from('<BBHIIIII', packed)
    if kind == 3:
        return Scores(frame, packed[24 : 24 + count], revision)
    masks = Masks(kind, frame, (size[0], size[1]), revision, {}, {}, {})
    position = 24
    for _ in range(count):
        number, score, flags, length = struct.unpack_from('<IfII', packed, position)
        counts = packed[position + 16 : position + 16 + length].decode('ascii')
        masks.codes[number] = EncodedMask(size=list(size), counts=counts)
        masks.scores[number], masks.flags[number] = score, flags
        position += 16 + length + -length % 4
    return masks


class Page:
    """A page that shows a session: a socket, and all that came through it.

    Attributes:
        client: By which the server knows the page again.
        hello: The server's first message.
        received: All messages after it, in order.
    """

    def __init__(
        self, server: 'DemoServer', session: str, client: str | None = None
    ) -> None:
        self.client = client or str(uuid.uuid4())
        self.received: list[Message | Masks | Scores] = []
        self._begin_of_pass = 0
        self._numbers = iter(range(1, 10**9))
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(
            connect(
                f'{server.address.replace("http", "ws")}/api/sessions/{session}/socket',
                max_size=None,
                compression=None,
            )
        )
        self.send('hello', client=self.client)
        self.hello = self.wait_for(lambda m: is_type(m, 'hello'))

    def send(self, kind: str, request: int | None = None, **entries: Any) -> int:
        """Send a command; return its number."""
        if kind in {'propagate', 'refine'}:
            self._begin_of_pass = len(self.received)
        number = next(self._numbers) if request is None else request
        self.socket.send(json.dumps({'request': number, 'type': kind, **entries}))
        return number

    def ask(self, kind: str, request: int | None = None, **entries: Any) -> Message:
        """Send a command, and wait for its reply."""
        return self.reply(self.send(kind, request, **entries))

    def reply(self, number: int) -> Message:
        """Wait for the reply to a command."""
        reply: Message = self.wait_for(
            lambda m: isinstance(m, dict) and m.get('request') == number
        )
        return reply

    def next(self) -> Message | Masks | Scores:
        """Wait for the next message."""
        raw = self.socket.recv(WAIT)
        message = read_binary(raw) if isinstance(raw, bytes) else json.loads(raw)
        self.received.append(message)
        return message

    def wait_for(self, is_it: Callable[[Any], bool]) -> Any:
        """Wait for a message."""
        while True:
            message = self.next()
            if is_it(message):
                return message

    def track(self, **entries: Any) -> Message:
        """Track, and wait for the end; return its message."""
        reply = self.ask('propagate', **{'start': 0, **entries})
        assert reply['type'] == 'done', reply
        return self.end_of_pass()

    def end_of_pass(self) -> Message:
        """Wait for the end of the latest pass, which may have come already."""

        def is_end(message: Any) -> bool:
            return is_type(message, 'pass') and message['state'] != 'running'

        come: list[Any] = list(filter(is_end, self.received[self._begin_of_pass :]))
        ended: Message = come[0] if come else self.wait_for(is_end)
        return ended

    def masks_of(self, *frames: int) -> list[Masks]:
        """Ask for the masks of frames."""
        assert self.ask('masks', frames=frames)['type'] == 'done'
        return self.masks()[-len(frames) :]

    def texts(self, kind: str) -> list[Message]:
        """What was received of a type of text."""
        return [m for m in self.received if is_type(m, kind) and isinstance(m, dict)]

    def masks(self) -> list[Masks]:
        """The masks that were received."""
        return [m for m in self.received if isinstance(m, Masks)]

    def close(self) -> None:
        """Leave."""
        self._stack.close()


def is_type(message: Any, kind: str) -> bool:
    """Whether a message is text of a type."""
    return isinstance(message, dict) and message['type'] == kind


class DemoServer:
    """A running server.

    Attributes:
        address: Such as http://127.0.0.1:40123.
        http: A client, which sends no cookies and follows no redirects.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.http = httpx.Client(base_url=address, timeout=WAIT)

    def new_session(self, source: object, **entries: Any) -> str:
        """Open a video; return the id of the session."""
        body = {'source': str(source), **entries}
        response = self.http.post('/api/sessions', json=body)
        assert response.status_code == 201, response.text
        return str(response.json()['id'])

    def state_of(self, session: str) -> Message:
        """The entry of a session in the list."""
        sessions: list[Message] = self.http.get('/api/sessions').json()
        return next(entry for entry in sessions if entry['id'] == session)


@contextmanager
def running_demo(options: DemoOptions, **config: Any) -> Iterator[DemoServer]:
    """Run the demo on a free port until the block ends."""
    app = create_app(options)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            port=0,
            log_level='error',
            ws='websockets-sansio',
            ws_max_size=MAX_DRAWING,
            timeout_graceful_shutdown=3,
            **config,
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        demo = DemoServer(f'http://127.0.0.1:{port}')
        with demo.http:
            yield demo
    finally:
        server.handle_exit(signal.SIGINT, None)
        thread.join(WAIT)
        assert not thread.is_alive()
