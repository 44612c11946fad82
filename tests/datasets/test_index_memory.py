"""The list of many videos is small, and workers share it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from torch.utils.data import DataLoader

from projects.sam2.datasets import ClipDataset
from projects.sam2.structures import VideoSource

MEGABYTE = 2**20
NUM_WORKERS = 4


@dataclass(frozen=True)
class Usage:
    """Memory that a process alone holds, in MB."""

    pid: int
    unique: float


def memory() -> Any:
    """What this process holds, in bytes."""
    process = psutil.Process()  # type: ignore[no-untyped-call]
    return process.memory_full_info()  # type: ignore[no-untyped-call]


class ManyVideos(ClipDataset):
    """Names without files; an item measures the memory of its process."""

    def __init__(self, *, num_videos: int) -> None:
        self.num_videos = num_videos
        super().__init__(data_root=None)

    def list_videos(self) -> list[str]:
        """Names as long as SA-V's with their folder."""
        return [f'sav_{i % 56:03d}/sav_{i:06d}' for i in range(self.num_videos)]

    def open_video(self, name: str) -> VideoSource:
        """Never called."""
        raise NotImplementedError(name)

    def __getitem__(self, idx: int) -> Usage:  # type: ignore[override]
        """Look the video up, as a worker does, and measure."""
        for index in range(idx, self.num_videos, 7):
            self.video_name(index)
        return Usage(os.getpid(), memory().uss / MEGABYTE)


def worker_usage(dataset: ManyVideos) -> dict[int, float]:
    """Most that each of four workers holds alone."""

    def indices() -> Iterator[Any]:
        yield from range(3 * NUM_WORKERS)

    loader = DataLoader(
        dataset, sampler=indices(), num_workers=NUM_WORKERS, collate_fn=list
    )
    most: dict[int, float] = {}
    for batch in loader:
        for usage in batch:
            most[usage.pid] = max(usage.unique, most.get(usage.pid, 0.0))
    return most


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_fifty_thousand_videos_are_small_and_workers_share_them() -> None:
    few = ManyVideos(num_videos=50)
    before = memory().rss / MEGABYTE
    many = ManyVideos(num_videos=50_000)
    added = memory().rss / MEGABYTE - before
    assert added < 200
    assert many.data_bytes.nbytes < 10 * MEGABYTE
    with_few, with_many = worker_usage(few), worker_usage(many)
    assert len(with_few) == len(with_many) == NUM_WORKERS
    assert max(with_many.values()) - min(with_few.values()) < 3
