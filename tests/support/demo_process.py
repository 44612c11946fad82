"""Starts the annotation demo as its users do, on generated clips of cells."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis import SAM2VideoPredictor, build_sam2_video_predictor
from projects.sam2.datasets.sources.cells import draw_clip
from projects.sam2.visualization.video_file import write_video
from tool_modules import ROOT

WEIGHTS = ROOT / 'docs' / 'weights'
CONFIG, CHECKPOINT = WEIGHTS / 'sam2_mini_cells.py', WEIGHTS / 'sam2_mini.pth'
SIDE = 256  # pixels of the clips; the model works at half of it
FRAMES_PER_SECOND = 12.0
SEED = 1000  # of a clip whose three cells the small model tracks well
START_SECONDS = 60.0


class CellClip:
    """A clip with the masks that it was drawn from.

    Attributes:
        frames: (T, side, side, 3), RGB.
        labels: (T, side, side), 1, 2, … for the cells.
    """

    def __init__(
        self,
        num_frames: int = 16,
        *,
        side: int = SIDE,
        seed: int = SEED,
        bright_field: bool = False,
    ) -> None:
        self.frames, self.labels = draw_clip(
            seed, num_frames, side=side, bright_field=bright_field
        )

    def center(self, cell: int, frame_index: int = 0) -> tuple[float, float]:
        """The pixel of a cell that is farthest from its outline, (x, y)."""
        mask = np.pad(self.mask(cell, frame_index), 1).astype(np.uint8)
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return float(x), float(y)

    def box(self, cell: int, frame_index: int = 0) -> tuple[float, ...]:
        """The box of a cell, (left, top, right, bottom)."""
        rows, columns = np.nonzero(self.mask(cell, frame_index))
        sides = (columns.min(), rows.min(), columns.max(), rows.max())
        return tuple(float(side) for side in sides)

    def mask(self, cell: int, frame_index: int = 0) -> NDArray[np.bool_]:
        """The pixels of a cell."""
        mask: NDArray[np.bool_] = self.labels[frame_index] == cell
        return mask

    def write(self, path: Path) -> Path:
        """Write the frames as an mp4, or as images where the path has no suffix."""
        if path.suffix:
            write_video(path, self.frames, frames_per_second=FRAMES_PER_SECOND)
            return path
        path.mkdir(parents=True)
        for index, frame in enumerate(self.frames):
            cv2.imwrite(str(path / f'{index:05d}.png'), frame[..., ::-1])
        return path


def small_predictor() -> SAM2VideoPredictor:
    """Build the predictor that the server uses."""
    return build_sam2_video_predictor(str(CONFIG), str(CHECKPOINT), device='cpu')


class DemoServer:
    """A running ``mmsam2 demo``.

    Args:
        folder: Its root; sessions are below it.
        sources: Videos to open, as on the command line.
        options: More options of the command line.
    """

    def __init__(
        self, folder: Path, *, sources: Sequence[Path] = (), options: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.sessions = folder / 'sessions'
        self.log = folder / 'server.log'
        self.port = free_port()
        self.url = f'http://127.0.0.1:{self.port}'
        self._command = [
            *(sys.executable, str(ROOT / 'tools' / 'demo.py'), *map(str, sources)),
            *('--config', str(CONFIG), '--checkpoint', str(CHECKPOINT)),
            *('--device', 'cpu', '--port', str(self.port), '--no-browser'),
            *('--sessions', str(self.sessions), '--root', str(folder), *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: If it ends, or does not answer in time.
        """
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=ROOT, env=environment
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            if self.answers():
                return
            time.sleep(0.1)
        self.kill()
        msg = f'The demo did not start:\n{self.log.read_text("utf-8")}'
        raise RuntimeError(msg)

    def answers(self) -> bool:
        """Whether it answers requests."""
        try:
            return httpx.get(f'{self.url}/api/health').is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it, as Ctrl-C does."""
        self._end(signal.SIGINT)

    def limit_files(self, num_bytes: int) -> None:
        """Let no file grow beyond a size, as on a full disk; -1 ends that."""
        if self._process is None:
            msg = 'The server does not run'
            raise RuntimeError(msg)
        soft = resource.RLIM_INFINITY if num_bytes < 0 else num_bytes
        limits = (soft, resource.RLIM_INFINITY)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, limits)

    def create_session(self, source: Path | str, **settings: Any) -> str:
        """Open a video or stills, and return the id of the session."""
        answer = self.request('POST', 'sessions', source=str(source), **settings)
        return str(answer['id'])

    def request(self, method: str, path: str, **content: Any) -> Any:
        """Send a request with a JSON body and return the JSON of the answer.

        Raises:
            RuntimeError: If it is refused, with the server's sentence.
        """
        answer = httpx.request(
            method, f'{self.url}/api/{path}', json=content or None, timeout=60
        )
        if answer.is_error:
            msg = f'{method} {path}: {answer.status_code} {answer.text}'
            raise RuntimeError(msg)
        return answer.json() if answer.content else None

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return int(listener.getsockname()[1])
