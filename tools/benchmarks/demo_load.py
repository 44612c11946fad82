"""Measure the annotation demo under load: many objects, a long video, many sessions.

A generated video of many moving discs is tracked in a real server, while its memory is
sampled; then a page in Chromium scrubs through the result, and clicks.

    python tools/benchmarks/demo_load.py --json work_dirs/demo_load.json
    python tools/benchmarks/demo_load.py --objects 10 --frames 300    # a first look

Needs Linux, ``pip install 'mmsam2[demo]' playwright`` and Chromium. Targets: the
server's resident memory stays within 50 MB from frame 200 on; the page's heap stays
under 500 MB; scrubbing shows at least 25 frames a second; a click shows its mask at
most 100 ms after the time that the model takes; 20 sessions are open while 3 track.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.installation import WEIGHTS
from projects.sam2.visualization.video_file import VideoFile

ROOT = Path(__file__).resolve().parents[2]
CONFIG, CHECKPOINT = WEIGHTS / 'sam2_mini_cells.py', WEIGHTS / 'sam2_mini.pth'
RADIUS = 14  # of a disc, in pixels
STEADY_FRAME = 200  # memory is compared with that at this frame
CLICKS = 12
SCRUB_SECONDS = 20.0
OPEN_SESSIONS, BUSY_SESSIONS = 20, 3
NUM_LATENCIES = 30
MB = 2**20


@dataclass(slots=True, kw_only=True)
class Measured:
    """What was measured; None where it was left out.

    Attributes:
        num_objects: Objects of the video.
        num_frames: Frames of the video.
        size: Height and width of the video.
        tracking_s: Time to track all frames.
        resident_mb: Resident memory of the server, by frame.
        heap_mb: JavaScript heap of the page after scrubbing, garbage collected, and the
            frames and masks that it caches beside it.
        scrub_fps: Frames with their masks that the page showed a second.
        model_ms: Median time of a click in :class:`SAM2VideoPredictor` itself.
        click_ms: Median time from the click to its mask on the page.
        crowded_ms: Median time of a click beside tracking sessions, over a socket.
        crowded_mb: Resident memory with all sessions open.
    """

    num_objects: int
    num_frames: int
    size: tuple[int, int]
    tracking_s: float = 0.0
    resident_mb: dict[int, float] = field(default_factory=dict)
    heap_mb: float | None = None
    scrub_fps: float | None = None
    model_ms: float | None = None
    click_ms: float | None = None
    crowded_ms: float | None = None
    crowded_mb: float | None = None

    @property
    def drift_mb(self) -> float:
        """Largest change of the resident memory after :data:`STEADY_FRAME`."""
        late = [mb for frame, mb in self.resident_mb.items() if frame >= STEADY_FRAME]
        return max((abs(mb - late[0]) for mb in late), default=float('nan'))

    def lines(self) -> list[str]:
        """The figures beside their targets."""
        figures = [
            ('tracking, s', self.tracking_s, ''),
            ('change of resident memory, MB', self.drift_mb, '50'),
            ('heap of the page, MB', self.heap_mb, '500'),
            ('scrubbing, frames/s', self.scrub_fps, 'at least 25'),
            ('click in the predictor, ms', self.model_ms, ''),
            ('click on the page, ms', self.click_ms, 'the predictor + 100'),
            ('click beside busy sessions, ms', self.crowded_ms, ''),
            ('memory with all sessions, MB', self.crowded_mb, ''),
        ]
        return [
            f'{title:<32} {value:8.1f}  {target}'
            for title, value, target in figures
            if value is not None
        ]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--objects', type=int, default=50, help='objects (default 50)')
    add('--frames', type=int, default=3000, help='frames (default 3000)')
    add('--size', type=int, nargs=2, default=(360, 640), metavar=('H', 'W'))
    add('--config', default=str(CONFIG), help='default: the small model for examples')
    add('--checkpoint', default=str(CHECKPOINT))
    add('--work-dir', type=Path, default=Path('work_dirs/demo_load'))
    add('--no-page', action='store_true', help='leave out what needs Chromium')
    add('--no-crowd', action='store_true', help='leave out the many sessions')
    add('--json', type=Path, help='write the figures here')
    return parser.parse_args(arguments)


def disc_centers(
    num_objects: int, frame_index: int, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Centres of the discs on a frame, (O, 2), ``(x, y)``: each circles in a cell."""
    columns = int(np.ceil(np.sqrt(num_objects * size[1] / size[0])))
    rows = -(-num_objects // columns)
    cell = np.array([size[1] / columns, size[0] / rows])
    index = np.arange(num_objects)
    grid = np.stack([index % columns, index // columns], axis=1)
    angle = frame_index / 40 + index
    wobble = np.stack([np.cos(angle), np.sin(angle)], axis=1) * (cell / 2 - RADIUS)
    return np.asarray((grid + 0.5) * cell + np.clip(wobble, -cell, cell))


def make_video(path: Path, measured: Measured) -> None:
    """Write the video, unless it is there."""
    if path.is_file():
        return
    height, width = measured.size
    rng = np.random.default_rng(0)
    colors = rng.integers(60, 256, (measured.num_objects, 3)).tolist()
    coarse = rng.integers(0, 60, (9, 16, 3), dtype=np.uint8)
    background = np.asarray(cv2.resize(coarse, (width, height)), np.uint8)
    with VideoFile(path, frames_per_second=25.0) as video:
        for frame_index in range(measured.num_frames):
            frame = background.copy()
            centers = disc_centers(measured.num_objects, frame_index, measured.size)
            for (x, y), color in zip(centers, colors, strict=True):
                cv2.circle(frame, (round(x), round(y)), RADIUS, color, -1)
            video.add(frame)


def free_port() -> int:
    """Find a port that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return int(listener.getsockname()[1])


@dataclass(slots=True)
class Server:
    """A demo that runs in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int

    def resident_mb(self) -> float:
        """Resident memory of the process."""
        pages = Path(f'/proc/{self.process.pid}/statm').read_text('ascii').split()[1]
        return int(pages) * os.sysconf('SC_PAGE_SIZE') / MB

    def call(self, path: str, content: object = None) -> Any:
        """Send a request; the answer's JSON."""
        address = f'http://127.0.0.1:{self.port}{path}'
        data = None if content is None else json.dumps(content).encode()
        headers = {'Content-Type': 'application/json', 'Origin': address[: -len(path)]}
        request = urllib.request.Request(address, data, headers)
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)


@contextmanager
def running_server(options: argparse.Namespace) -> Iterator[Server]:
    """Start the demo, wait until it answers, and stop it at the end."""
    folder, port = options.work_dir, free_port()
    shutil.rmtree(folder / 'sessions', ignore_errors=True)
    command = [sys.executable, str(ROOT / 'tools' / 'demo.py'), '--no-browser']
    command += ['--config', options.config, '--checkpoint', options.checkpoint]
    command += ['--port', str(port), '--root', str(folder)]
    command += ['--sessions', str(folder / 'sessions')]
    with (folder / 'server.log').open('wb') as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Server(process, port)
    try:
        for _ in range(600):
            try:
                server.call('/api/health')
                break
            except OSError:
                if process.poll() is not None:
                    sys.exit(f'The demo ended; see {folder / "server.log"}')
                time.sleep(0.2)
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


class Tab:
    """A page's socket."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.request = 0

    async def send(self, kind: str, **values: object) -> int:
        """Send a command; its number."""
        self.request += 1
        message = {'request': self.request, 'type': kind, **values}
        await self.socket.send(json.dumps(message))
        return self.request

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the text messages that arrive."""
        async for message in self.socket:
            if isinstance(message, str):
                yield json.loads(message)

    async def ask(self, kind: str, **values: object) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        request = await self.send(kind, **values)
        async for message in self.messages():
            if message['type'] == 'error' and message['request'] == request:
                sys.exit(f'{kind}: {message["message"]}')
            if message['type'] == 'done' and message['request'] == request:
                return message
        sys.exit(f'{kind}: the server closed the connection')


@asynccontextmanager
async def open_tab(server: Server, session: str) -> AsyncIterator[Tab]:
    """Connect to a session as a page does."""
    import websockets

    origin = f'http://127.0.0.1:{server.port}'
    address = f'ws://127.0.0.1:{server.port}/api/sessions/{session}/socket'
    async with websockets.connect(
        address, origin=websockets.Origin(origin), max_size=None
    ) as connection:
        tab = Tab(connection)
        await tab.send('hello', client=str(uuid.uuid4()))
        async for message in tab.messages():
            if message['type'] == 'error':
                sys.exit(f'hello: {message["message"]}')
            if message['type'] == 'hello':
                break
            if message['type'] == 'error':
                sys.exit(f'hello: {message["message"]}')
        yield tab


async def prompt_objects(tab: Tab, measured: Measured) -> None:
    """Give every disc a box on the first frame."""
    centers = disc_centers(measured.num_objects, 0, measured.size)
    for x, y in centers.tolist():
        box = [
            max(x - RADIUS, 0.0),
            max(y - RADIUS, 0.0),
            min(x + RADIUS, measured.size[1] - 1.0),
            min(y + RADIUS, measured.size[0] - 1.0),
        ]
        await tab.ask('prompt', frame=0, object=None, points=[], box=box)


async def track_all(server: Server, session: str, measured: Measured) -> None:
    """Track all objects through the video; sample the server's memory."""
    async with open_tab(server, session) as tab:
        await prompt_objects(tab, measured)
        start = time.monotonic()
        await tab.send(
            'propagate', objects=None, start=0, stop=None, direction='forward'
        )
        next_sample = 0
        async for message in tab.messages():
            if message['type'] == 'error':
                sys.exit(f'propagate: {message["message"]}')
            if message['type'] != 'pass' or message['frame'] is None:
                continue
            frame = message['frame']  # None until the first one is tracked
            if frame is not None and frame >= next_sample:
                measured.resident_mb[frame] = server.resident_mb()
                next_sample = frame + 50
                seconds = time.monotonic() - start
                print(
                    f'  frame {frame}: {measured.resident_mb[frame]:.0f} MB, '
                    f'{seconds:.0f} s',
                    flush=True,
                )
            if message['state'] != 'running':
                if message['state'] != 'done':
                    sys.exit(f'The pass ended: {message}')
                break
        measured.tracking_s = time.monotonic() - start
        measured.resident_mb[measured.num_frames - 1] = server.resident_mb()


def time_model(options: argparse.Namespace, video: Path, measured: Measured) -> float:
    """Median milliseconds of a click in the predictor itself."""
    import projects.sam2.registration  # noqa: F401  registers the parts of the model
    from projects.sam2.apis import build_sam2_video_predictor

    predictor = build_sam2_video_predictor(
        options.config, options.checkpoint, device='cpu'
    )
    state = predictor.init_state(str(video))
    seconds = []
    for index in range(CLICKS):
        center = disc_centers(measured.num_objects, index, measured.size)[0]
        start = time.perf_counter()
        predictor.add_new_points_or_box(
            state, frame_idx=index, obj_id=1 + index, points=[center], labels=[1]
        )
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000


def use_page(server: Server, session: str, measured: Measured) -> None:
    """Scrub and click in Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which('chromium'),
            args=['--no-sandbox', '--js-flags=--expose-gc'],
        )
        page = browser.new_page(viewport={'width': 1280, 'height': 720})
        page.goto(f'http://127.0.0.1:{server.port}/?debug=1#/sessions/{session}')
        wait_until(page, 'window.mmsam2?.idle()')
        measured.scrub_fps = page.evaluate(SCRUB, [measured.num_frames, SCRUB_SECONDS])
        page.evaluate('gc()')
        tools = page.context.new_cdp_session(page)
        tools.send('Performance.enable')
        metrics = tools.send('Performance.getMetrics')['metrics']
        heap = next(m['value'] for m in metrics if m['name'] == 'JSHeapUsedSize')
        cached = page.evaluate('mmsam2.bytes().frames + mmsam2.bytes().masks')
        measured.heap_mb = (heap + cached) / MB
        measured.click_ms = statistics.median(click_times(page, measured))
        browser.close()


# Drags the play head: it moves on by half a frame 60 times a second, so 30 frames a
# second are asked for. Counts the frames that are drawn; the page draws none without
# its masks, which is checked for one in ten.
SCRUB = """async ([numFrames, seconds]) => {
  const start = performance.now()
  let [drawn, last, without] = [0, -1, 0]
  for (;;) {
    const elapsed = (performance.now() - start) / 1000
    if (elapsed > seconds) return without ? NaN : drawn / elapsed
    window.mmsam2.seek(Math.floor(elapsed * 30) % numFrames)
    await new Promise(requestAnimationFrame)
    const frame = window.mmsam2.frame()
    if (frame === last) continue
    last = frame
    if (++drawn % 10 === 0 && window.mmsam2.masks(frame) === null) without++
  }
}"""

# Resolves when the mask of the object on the frame has changed and is drawn.
WAIT_FOR_MASK = """async ([frame, before]) => {
  const start = performance.now()
  for (;;) {
    const masks = JSON.stringify(window.mmsam2.masks(frame))
    if (masks !== before && window.mmsam2.idle()) return performance.now() - start
    await new Promise(requestAnimationFrame)
  }
}"""


def wait_until(page: Any, condition: str, seconds: float = 60.0) -> None:
    """Wait for a condition in the page, whose policy forbids Playwright's own way."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            sys.exit(f'The page is not ready after {seconds:.0f} s: {condition}')
        page.wait_for_timeout(20)


def click_times(page: Any, measured: Measured) -> list[float]:
    """Milliseconds from clicks on new objects to their masks on the page."""
    times = []
    for index in range(CLICKS):
        frame = 1000 % measured.num_frames + index
        page.evaluate('frame => window.mmsam2.seek(frame)', frame)
        wait_until(page, f'mmsam2.frame() === {frame} && mmsam2.idle()')
        page.get_by_test_id('add-object').click()
        wait_until(page, 'mmsam2.idle()')
        page.get_by_test_id('tool-point').click()
        x, y = disc_centers(measured.num_objects, frame, measured.size)[0]
        at = page.evaluate('([x, y]) => window.mmsam2.toPage(x, y)', [x, y])
        before = page.evaluate(
            'frame => JSON.stringify(window.mmsam2.masks(frame))', frame
        )
        page.mouse.move(*at)
        page.mouse.down()
        page.mouse.up()
        times.append(page.evaluate(WAIT_FOR_MASK, [frame, before]))
    return times


async def crowd(server: Server, video: Path, measured: Measured) -> None:
    """Open many sessions, let some track, and click in another."""
    sessions = [
        server.call('/api/sessions', {'source': str(video), 'name': f'crowd {index}'})[
            'id'
        ]
        for index in range(OPEN_SESSIONS)
    ]
    few = Measured(num_objects=3, num_frames=measured.num_frames, size=measured.size)
    async with AsyncExitStack() as stack:
        tabs = [
            await stack.enter_async_context(open_tab(server, session))
            for session in sessions
        ]
        for tab in tabs:
            await prompt_objects(tab, few)
        for tab in tabs[:BUSY_SESSIONS]:
            await tab.send(
                'propagate', objects=None, start=0, stop=None, direction='forward'
            )
        seconds = []
        x, y = disc_centers(measured.num_objects, 0, measured.size)[0].tolist()
        for index in range(NUM_LATENCIES):
            start = time.perf_counter()
            point = [[x + index % 5, y, 1]]
            await tabs[-1].ask('prompt', frame=0, object=1, points=point, box=None)
            seconds.append(time.perf_counter() - start)
        measured.crowded_ms = statistics.median(seconds) * 1000
        measured.crowded_mb = server.resident_mb()
        for tab in tabs[:BUSY_SESSIONS]:
            await tab.ask('cancel')


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the figures."""
    options = parse_arguments(arguments)
    options.work_dir = options.work_dir.absolute()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    measured = Measured(
        num_objects=options.objects, num_frames=options.frames, size=(*options.size,)
    )
    height, width = measured.size
    name = f'{measured.num_objects}x{measured.num_frames}_{height}x{width}.mp4'
    video = options.work_dir / name
    make_video(video, measured)
    measured.model_ms = time_model(options, video, measured)
    with running_server(options) as server:
        session = server.call('/api/sessions', {'source': str(video)})['id']
        asyncio.run(track_all(server, session, measured))
        if not options.no_page:
            use_page(server, session, measured)
        if not options.no_crowd:
            asyncio.run(crowd(server, video, measured))
    print('\n'.join(measured.lines()))
    if options.json:
        result = {**asdict(measured), 'drift_mb': measured.drift_mb}
        options.json.write_text(json.dumps(result, indent=2), encoding='utf-8')


if __name__ == '__main__':
    main()
