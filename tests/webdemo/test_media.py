"""Tests of the frames' cache: what is decoded, in which order, and what is kept."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from projects.sam2.webdemo.server.media import MediaCache, thumbnail_bytes


class Video:
    """Notes which frames are read.

    Attributes:
        reads: Their indices.
        num_begun: How many were begun to be read.
        permits: How many more frames may be read.
    """

    path, kind, key, num_frames = Path(), 'video', 'k', 1000

    def __init__(self) -> None:
        self.reads: list[int] = []
        self.num_begun = 0
        self.permits = threading.Semaphore(10_000)

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """A frame of 10,000 bytes or so."""
        self.num_begun += 1
        assert self.permits.acquire(timeout=10)
        self.reads.append(frame_index)
        if frame_index == 777:
            raise ValueError('frame 777 is broken')
        rng = np.random.default_rng(frame_index)
        return rng.integers(0, 255, (90, 120, 3), np.uint8)


def run(steps: Any, video: Any, max_bytes: int = 2**20) -> MediaCache:
    """Run steps with a cache."""

    async def all_steps() -> MediaCache:
        cache = MediaCache(max_bytes)
        await steps(cache, video)
        await cache.close()
        return cache

    return asyncio.run(all_steps())


def test_frames_are_decoded_once_and_in_order() -> None:
    async def scrub(cache: MediaCache, video: Any) -> None:
        frames = await asyncio.gather(*(cache.frame(video, i) for i in [0] * 5))
        assert len(set(frames)) == 1
        for index in range(1, 12):
            await cache.frame(video, index)

    video = Video()
    run(scrub, video)
    assert video.reads == sorted(set(video.reads))
    assert 12 <= len(video.reads) <= 24  # and some that come next


def test_scrubbing_backwards_decodes_ahead_backwards() -> None:
    async def scrub(cache: MediaCache, video: Any) -> None:
        for index in (50, 49, 48):
            await cache.frame(video, index)

    video = Video()
    run(scrub, video)
    assert video.reads == sorted(video.reads, reverse=True)


def test_a_jump_forgets_what_was_to_come() -> None:
    async def jump(cache: MediaCache, video: Any) -> None:
        video.permits = threading.Semaphore(2)
        await cache.frame(video, 0)
        await cache.frame(video, 1)
        while video.num_begun < 3:  # the next one is being decoded
            await asyncio.sleep(0.001)
        far = asyncio.ensure_future(cache.frame(video, 500))
        again = asyncio.ensure_future(cache.frame(video, 3))
        await asyncio.sleep(0.05)
        video.permits.release(1000)
        assert await far != await again

    video = Video()
    run(jump, video)
    # Frame 2 was being decoded; those after it were not needed any more.
    assert video.reads == [0, 1, 2, 500, 3]


def test_the_cache_is_bounded_and_errors_are_not_kept() -> None:
    async def fill(cache: MediaCache, video: Any) -> None:
        for index in range(0, 1000, 10):
            await cache.frame(video, index)
            assert cache.num_bytes <= cache.max_bytes
        for _ in range(2):
            with pytest.raises(ValueError, match='broken'):
                await cache.frame(video, 777)
        assert video.reads.count(777) == 2
        cache.forget(video)
        assert cache.num_bytes == 0

    run(fill, Video(), max_bytes=50_000)


def test_thumbnails_have_a_reader_of_their_own() -> None:
    other = Video()

    async def look(cache: MediaCache, video: Any) -> None:
        await cache.frame(video, 4)
        await asyncio.gather(*(cache.thumbnail(video, i) for i in (900, 0, 450)))

    video = Video()
    video.reopen = lambda: other  # type: ignore[attr-defined]
    run(look, video)
    assert video.reads == [4]
    assert other.reads == [900, 0, 450]


@pytest.mark.parametrize(
    ('size', 'expected'),
    [((144, 200), (72, 100)), ((2, 60_000), (1, 1024)), ((60_000, 2), (72, 1))],
)
def test_thumbnails_of_thin_images_are_small(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    content = thumbnail_bytes(np.zeros((*size, 3), np.uint8))
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape[:2] == expected
