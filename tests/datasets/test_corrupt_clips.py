"""Counting corrupt clips."""

import logging
import tracemalloc

import pytest
from mmengine.logging import MMLogger

from projects.sam2.datasets.clip_dataset import CorruptClips
from projects.sam2.datasets.io.errors import ClipDataError, ClipDrawError


def reject(clips: CorruptClips, *names: str) -> None:
    """Reject clips that are named by a letter, or ``clip`` and a number from 0 on."""
    for name in names:
        index = ord(name) - ord('a') if len(name) == 1 else int(name[4:])
        clips.reject(index, name, ClipDataError(f'{name}: broken; mend it'))


def accept(clips: CorruptClips, *indices: int) -> None:
    for index in indices:
        clips.accept(index, str(index))


def test_clips_are_counted_once_each() -> None:
    clips = CorruptClips(num_clips=100, max_share=0.1)
    reject(clips, 'a', 'b', 'a')
    assert clips.reasons == {'a': 'a: broken; mend it', 'b': 'b: broken; mend it'}
    assert (clips.num_tried, clips.num_rejected) == (2, 2)


def test_share_is_taken_over_distinct_clips() -> None:
    clips = CorruptClips(num_clips=1000, max_share=0.1)
    accept(clips, *range(900, 948))
    reject(clips, 'a', 'b', 'c', 'd', 'e')
    with pytest.raises(ClipDataError, match=r'6 of 54 clips'):
        reject(clips, 'f')


def test_first_corrupt_clip_stops_a_run_only_without_tolerance() -> None:
    for share in (0.1, 0.01, 0.001):
        reject(CorruptClips(num_clips=10_000, max_share=share), 'a', 'b')
    with pytest.raises(ClipDataError, match='1 of 1 clips'):
        reject(CorruptClips(num_clips=1000, max_share=0.0), 'a')


def test_small_dataset_is_measured_by_its_own_length() -> None:
    clips = CorruptClips(num_clips=4, max_share=0.25)
    reject(clips, 'a')
    with pytest.raises(ClipDataError) as raised:
        reject(clips, 'b')
    for text in ('a: broken', 'b: broken', 'max_bad_share=0.25', 'exclude list'):
        assert text in str(raised.value)


def test_long_lists_are_cut_with_a_count() -> None:
    clips = CorruptClips(num_clips=1000, max_share=1.0)
    reject(clips, *(f'clip{number}' for number in range(25)))
    assert 'and 5 more' in clips.summary()
    assert clips.summary().count('broken') == 20
    assert len(clips.reasons) == 20


def test_millions_of_clips_take_a_byte_each() -> None:
    num_clips = 11_000_000
    tracemalloc.start()
    clips = CorruptClips(num_clips=num_clips, max_share=1.0)
    accept(clips, *range(0, num_clips, 1000), num_clips - 1, 0)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1.1 * num_clips
    assert clips.num_tried == 11_001


def test_each_skipped_clip_is_logged_once_with_the_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = MMLogger.get_instance('bad_clips', logger_name='bad_clips')
    logger.addHandler(caplog.handler)
    clips = CorruptClips(num_clips=100, max_share=0.5)
    # Of processes but the first, MMEngine prints errors alone.
    with caplog.at_level(logging.ERROR):
        reject(clips, 'a', 'a', 'b')
    logger.removeHandler(caplog.handler)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert 'Skipped b (2 bad of 2 clips tried): b: broken' in messages[1]


def test_unlucky_draws_of_a_used_clip_do_not_count() -> None:
    clips = CorruptClips(num_clips=10, max_share=0.1)
    lost, broken = ClipDrawError('a: lost'), ClipDataError('b: broken')
    clips.reject(0, 'a', lost)
    clips.accept(0, 'a')
    assert (clips.num_rejected, clips.reasons) == (0, {})
    clips.reject(0, 'a', lost)  # it was used before
    clips.reject(1, 'b', broken)
    clips.reject(1, 'b', ClipDrawError('b: lost'))
    clips.accept(1, 'b')  # a file of it stays broken
    assert (clips.num_rejected, clips.reasons) == (1, {'b': 'b: broken'})
    with pytest.raises(ClipDataError, match='2 of 3 clips'):
        clips.reject(2, 'c', lost)
