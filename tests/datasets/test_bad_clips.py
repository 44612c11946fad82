"""The count of skipped clips."""

import logging
import tracemalloc

import pytest
from mmengine.logging import MMLogger

from projects.sam2.datasets.clip_dataset import BadClipLedger, ClipMarks
from projects.sam2.datasets.io.errors import ClipDataError, ClipDrawError


def reject(ledger: BadClipLedger, *names: str) -> None:
    """Clips that are called by a letter or ``clip``, and a number from 0 on."""
    for name in names:
        index = ord(name) - ord('a') if len(name) == 1 else int(name[4:])
        ledger.attempt(index)
        ledger.reject(index, name, ClipDataError(f'{name}: broken; mend it'))


def attempt(ledger: BadClipLedger, count: int) -> None:
    for number in range(count):
        ledger.attempt(ledger.num_clips - 1 - number)


def test_few_bad_clips_are_counted_once_each() -> None:
    ledger = BadClipLedger(num_clips=100, max_share=0.1)
    reject(ledger, 'a', 'b', 'a')
    assert ledger.reasons == {'a': 'a: broken; mend it', 'b': 'b: broken; mend it'}
    assert (len(ledger.attempted), len(ledger.rejected)) == (2, 2)


def test_share_of_distinct_clips_is_what_counts() -> None:
    ledger = BadClipLedger(num_clips=1000, max_share=0.1)
    attempt(ledger, 48)
    reject(ledger, 'a', 'b', 'c', 'd', 'e')
    with pytest.raises(ClipDataError, match=r'6 of 54 clips'):
        reject(ledger, 'f')


def test_first_bad_clip_of_many_does_not_stop_but_without_tolerance_it_does() -> None:
    for share in (0.1, 0.01, 0.001):
        reject(BadClipLedger(num_clips=10_000, max_share=share), 'a', 'b')
    with pytest.raises(ClipDataError, match='1 of 1 clips'):
        reject(BadClipLedger(num_clips=1000, max_share=0.0), 'a')


def test_small_dataset_is_measured_by_its_own_length() -> None:
    ledger = BadClipLedger(num_clips=4, max_share=0.25)
    reject(ledger, 'a')
    with pytest.raises(ClipDataError) as raised:
        reject(ledger, 'b')
    for text in ('a: broken', 'b: broken', 'max_bad_share=0.25', 'exclude list'):
        assert text in str(raised.value)


def test_long_lists_are_cut_with_a_count() -> None:
    ledger = BadClipLedger(num_clips=1000, max_share=1.0)
    reject(ledger, *(f'clip{number}' for number in range(25)))
    assert 'and 5 more' in ledger.summary()
    assert ledger.summary().count('broken') == 20
    assert len(ledger.reasons) == 20


def test_marks_of_millions_of_clips_take_a_bit_each() -> None:
    num_clips = 11_000_000
    tracemalloc.start()
    marks = ClipMarks(num_clips)
    new = [marks.add(index) for index in (*range(0, num_clips, 1000), num_clips - 1, 0)]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 2 * 10**6
    assert (len(marks), new[-1], all(new[:-1])) == (11_001, False, True)


def test_each_skipped_clip_is_logged_once_with_the_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = MMLogger.get_instance('bad_clips', logger_name='bad_clips')
    logger.addHandler(caplog.handler)
    ledger = BadClipLedger(num_clips=100, max_share=0.5)
    # Of processes but the first, MMEngine prints errors alone.
    with caplog.at_level(logging.ERROR):
        reject(ledger, 'a', 'a', 'b')
    logger.removeHandler(caplog.handler)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert 'Skipped b (2 bad of 2 clips tried): b: broken' in messages[1]


def test_clip_of_which_a_sample_is_made_is_not_bad_for_a_lost_draw() -> None:
    ledger = BadClipLedger(num_clips=10, max_share=0.1)
    attempt(ledger, 3)
    lost, broken = ClipDrawError('a: lost'), ClipDataError('b: broken')
    ledger.reject(0, 'a', lost)
    ledger.accept(0, 'a')
    assert (len(ledger.rejected), ledger.reasons) == (0, {})
    ledger.reject(0, 'a', lost)  # it was used before
    ledger.reject(1, 'b', broken)
    ledger.reject(1, 'b', ClipDrawError('b: lost'))
    ledger.accept(1, 'b')  # a file of it stays broken
    assert (len(ledger.rejected), ledger.reasons) == (1, {'b': 'b: broken'})
    with pytest.raises(ClipDataError, match='2 of 3 clips'):
        ledger.reject(2, 'c', lost)
