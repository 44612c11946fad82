"""How the GPU suite measures: sizes, rows of a table, and their time budget."""

import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_device import HostDevice  # type: ignore[import-not-found]
from gpu_tables import LEFT_OUT, OUT_OF_MEMORY  # type: ignore[import-not-found]
from numpy.typing import NDArray

Row = dict[str, Any]
CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large everything is.

    Attributes:
        models: Config of each model, by the name that the tables show.
        recipes: Configs of the training recipes, likewise.
        model_of_recipes: Config whose model the recipes train; None for their own.
        image_size: Side of the frames that the model sees, in pixels.
        video_size: Height and width of the videos and images that are read.
        num_frames: Frames of a training clip.
        num_objects: Objects of a training clip.
        object_counts: Objects of the tracked videos.
        points_per_side: Of the automatic masks.
        matrix_side: Of the matrix product.
        copied_bytes: Of the copy.
        rounds: Largest number of rounds.
        skip_compiler: Let ``torch.compile`` run everything eagerly, to save time.
    """

    models: Mapping[str, str]
    recipes: Mapping[str, str]
    model_of_recipes: str | None = None
    image_size: int = 1024
    video_size: tuple[int, int] = (720, 1280)
    num_frames: int = 8
    num_objects: int = 3
    object_counts: tuple[int, ...] = (1, 3, 10, 30)
    points_per_side: int = 32
    matrix_side: int = 8192
    copied_bytes: int = 2**30
    rounds: int = 20
    skip_compiler: bool = False


RECIPES = {
    'as published': 'sam2_bplus_mose.py',
    '40 GB': 'sam2_bplus_mose_40gb.py',
    '24 GB': 'sam2_bplus_mose_24gb.py',
    'low memory': 'sam2_bplus_mose_low_memory.py',
    '16 GB, frozen encoder': 'sam2_bplus_mose_16gb.py',
    '8 GB, LoRA': 'sam2_bplus_mose_8gb_lora.py',
}
FULL = Sizes(
    models={
        'tiny': '_base_/models/sam2_1_tiny.py',
        'base+': '_base_/models/sam2_1_bplus.py',
    },
    recipes=RECIPES,
)
TOY = Sizes(
    models={'mini': '_base_/models/sam2_1_mini.py'},
    recipes={name: RECIPES[name] for name in ('as published', '8 GB, LoRA')},
    model_of_recipes='_base_/models/sam2_1_mini.py',
    image_size=64,
    video_size=(48, 80),
    num_frames=2,
    num_objects=2,
    object_counts=(2,),
    points_per_side=2,
    matrix_side=64,
    copied_bytes=2**16,
    rounds=1,
    skip_compiler=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds of a job.

    Attributes:
        first: Of the first call, which allocates, tunes and compiles.
        rounds: Of the rounds that count.
    """

    first: float
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.rounds)


class SectionRun:
    """Measures the rows of a section within a time budget.

    Args:
        device: The device.
        sizes: Sizes of what is measured.
        seconds: Time for the section. Rounds are dropped where it is short, rows never.
        emit: Receives each row.

    Attributes:
        rows_left: Rows that share the time that is left.
    """

    def __init__(
        self,
        device: HostDevice,
        sizes: Sizes,
        *,
        seconds: float,
        emit: Callable[[Row], None],
    ) -> None:
        self.device = device
        self.sizes = sizes
        self.rows_left = 1
        self._emit = emit
        self._end = time.monotonic() + seconds
        self._row_end = self._end
        self._jobs_left = 1

    def row(
        self, measure: Callable[[], Row], *, num_jobs: int = 1, **labels: object
    ) -> None:
        """Add a row; a failure becomes its note.

        Args:
            measure: Returns the figures of the row.
            num_jobs: Number of jobs that it times.
            labels: Its first cells.
        """
        now = time.monotonic()
        self._row_end = now + (self._end - now) / max(self.rows_left, 1)
        self._jobs_left = num_jobs
        try:
            figures = measure()
        except torch.OutOfMemoryError:
            figures = {'note': OUT_OF_MEMORY}
        except Exception as error:  # noqa: BLE001  the other rows are worth having
            traceback.print_exc()
            lines = str(error).strip().splitlines() or ['']
            figures = {'note': f'{type(error).__name__}: {lines[0]}'}
        self.rows_left -= 1
        self.device.release()
        self._emit({**labels, **figures})

    def skip(self, reason: str) -> None:
        """Leave the section out, which is no failure."""
        self._emit({LEFT_OUT: reason})

    def times(self, job: Callable[[], object], *, warm_up: int = 1) -> Times:
        """Time a job, for as many rounds as its share of the row's time allows.

        Args:
            warm_up: Calls after the first that do not count either.
        """
        first = self.device.timed(job)[0]
        for _ in range(warm_up):
            self.device.timed(job)
        now = time.monotonic()
        end = now + (self._row_end - now) / max(self._jobs_left, 1)
        self._jobs_left -= 1
        rounds = [self.device.timed(job)[0]]
        while len(rounds) < self.sizes.rounds and time.monotonic() < end:
            rounds.append(self.device.timed(job)[0])
        return Times(first=first, rounds=tuple(rounds))

    def noise(self, count: int) -> list[NDArray[np.uint8]]:
        """Frames of noise at the size of the videos, (height, width, 3)."""
        draw = np.random.default_rng(0)
        shape = (*self.sizes.video_size, 3)
        return [draw.integers(0, 255, shape, dtype=np.uint8) for _ in range(count)]
