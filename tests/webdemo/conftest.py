"""Fixtures of the demo: a small trained model, a clip, and a running server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from demo_server import MINI_CONFIG, MINI_WEIGHTS, DemoServer, Page, running_demo
from projects.sam2.apis import SAM2VideoPredictor, build_sam2_video_predictor
from projects.sam2.datasets.io.images import write_jpeg
from projects.sam2.webdemo.server.app import DemoOptions

NUM_FRAMES, HEIGHT, WIDTH = 24, 90, 120


@pytest.fixture(scope='session')
def mini_predictor() -> SAM2VideoPredictor:
    """The model that comes with the package."""
    return build_sam2_video_predictor(MINI_CONFIG, MINI_WEIGHTS, device='cpu')


@pytest.fixture(scope='session')
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a bright disc that moves by two pixels on each frame.

    The upper left corner tells the index of a frame: its brightness is ten times that.
    """
    folder = tmp_path_factory.mktemp('clips') / 'disc'
    folder.mkdir()
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(30, 70, (HEIGHT, WIDTH, 3), np.uint8)
    for index in range(NUM_FRAMES):
        frame = noise.copy()
        frame[(y - 45) ** 2 + (x - 30 - 2 * index) ** 2 < 18**2] = (230, 200, 40)
        frame[:16, :16] = 10 * index
        write_jpeg(folder / f'{index:05d}.jpg', frame, 95)
    return folder


@pytest.fixture(scope='module')
def server(
    tmp_path_factory: pytest.TempPathFactory, clip_folder: Path
) -> Iterator[DemoServer]:
    """A running server, which may read the folder of the clip."""
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=tmp_path_factory.mktemp('sessions'),
        roots=(clip_folder.parent,),
    )
    with running_demo(options) as running:
        yield running


@pytest.fixture
def open_page(server: DemoServer, clip_folder: Path) -> Iterator[Callable[..., Page]]:
    """Opens pages: of a new session of the clip, or of one that is given."""
    pages: list[Page] = []

    def open_it(session: str | None = None, client: str | None = None) -> Page:
        session = session or server.new_session(clip_folder)
        pages.append(Page(server, session, client))
        return pages[-1]

    yield open_it
    for page in pages:
        page.close()
