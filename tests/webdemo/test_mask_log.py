"""The append-only file of masks: what is written is read, damage and full disks."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.sam2.ops import EncodedMask, encode_masks
from projects.sam2.webdemo.session import mask_log
from projects.sam2.webdemo.session.mask_log import (
    NO_MASK,
    NO_SCORE,
    MaskChange,
    MaskIndex,
    MaskLog,
    MaskRecord,
)

NUM_FRAMES = 6


def noise(seed: int, height: int = 9, width: int = 11) -> EncodedMask:
    """A mask whose code is long."""
    rng = np.random.default_rng(seed)
    return encode_masks(rng.random((1, height, width)) < 0.5)[0]


def change(key: int, frame: int, mask: EncodedMask | int | None) -> MaskChange:
    return MaskChange(object_id=key, frame_index=frame, mask=mask, score=70)


def contents(log: MaskLog, index: MaskIndex) -> dict[tuple[int, int], EncodedMask]:
    return {
        (key, int(frame)): log.read(index.offset(key, int(frame)))
        for key in index.offsets
        for frame in index.frames(key)
    }


steps = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.integers(0, NUM_FRAMES - 1),
        st.one_of(st.none(), st.integers(0, 99)),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(steps=steps)
def test_the_index_follows_any_changes_there_and_back(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int, int | None]],
) -> None:
    log = MaskLog(tmp_path_factory.mktemp('log') / 'masks.bin')
    index, expected = MaskIndex(NUM_FRAMES), dict[tuple[int, int], EncodedMask]()
    history = []
    for key, frame, seed in steps:
        history.append((log.size, dict(expected)))
        mask = None if seed is None else noise(seed)
        index.apply(log.append([change(key, frame, mask)], index))
        expected.pop((key, frame), None)
        if mask is not None:
            expected[key, frame] = mask
        assert contents(log, index) == expected
    end = log.size
    for start, before in reversed(history):
        index.revert(list(log.scan(start, end)))
        assert contents(log, index) == before
        end = start
    assert all((scores == NO_SCORE).all() for scores in index.scores.values())
    index.apply(log.scan(len(mask_log.FILE_BEGIN), log.size))
    assert contents(log, index) == expected
    log.close()


def test_a_reference_shares_the_mask_and_masks_may_be_large(tmp_path: Path) -> None:
    log, index = MaskLog(tmp_path / 'masks.bin'), MaskIndex(NUM_FRAMES)
    large = noise(0, 300, 400)
    assert len(large['counts']) > 2048
    index.apply(log.append([change(1, 0, large)], index))
    offset, size = index.offset(1, 0), log.size
    index.apply(log.append([change(2, 3, offset)], index))
    assert log.size - size < 100
    assert log.read(index.offset(2, 3)) == large
    assert index.score(2, 3) == 70
    assert index.offset(2, 2) == NO_MASK
    log.close()


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[int], list[MaskRecord]]:
    """A file of some records, and where each of them ends."""
    log, index = MaskLog(tmp_path / 'masks.bin'), MaskIndex(NUM_FRAMES)
    ends, records = [log.size], []
    for frame in range(NUM_FRAMES):
        new = log.append([change(1, frame, noise(frame))], index)
        index.apply(new)
        records += new
        ends.append(log.size)
    log.close()
    return tmp_path / 'masks.bin', ends, records


def test_a_torn_tail_is_dropped_wherever_it_is_torn(
    written: tuple[Path, list[int], list[MaskRecord]],
) -> None:
    path, ends, records = written
    data = path.read_bytes()
    for size in range(ends[0], len(data)):
        path.write_bytes(data[:size])
        log = MaskLog(path)
        log.drop_torn_tail(ends[0])
        assert log.size == path.stat().st_size == max(e for e in ends if e <= size)
        count = ends.index(log.size)
        assert list(log.scan(ends[0], log.size)) == records[:count]
        log.close()


def test_a_changed_byte_is_noticed(
    written: tuple[Path, list[int], list[MaskRecord]],
) -> None:
    path, ends, records = written
    data = bytearray(path.read_bytes())
    for position in range(ends[2], ends[3]):
        damaged = data.copy()
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        log = MaskLog(path)
        with pytest.raises(OSError, match='damaged'):
            list(log.scan(ends[0], log.size))
        with pytest.raises(OSError, match='damaged'):
            log.read(records[2].offset)
        log.drop_torn_tail(ends[0])
        assert log.size == ends[2]
        log.close()


def test_on_a_full_disk_nothing_half_written_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, index = MaskLog(tmp_path / 'masks.bin'), MaskIndex(NUM_FRAMES)
    index.apply(log.append([change(1, 0, noise(0))], index))
    before, free = (tmp_path / 'masks.bin').read_bytes(), 30
    write = os.pwrite

    def write_until_full(descriptor: int, data: bytes, offset: int) -> int:
        room = len(before) + free - offset
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:room], offset)

    monkeypatch.setattr(os, 'pwrite', write_until_full)
    with pytest.raises(OSError, match='No space left'):
        log.append([change(1, 1, noise(1)), change(2, 1, noise(2))], index)
    assert log.size == len(before)
    assert (tmp_path / 'masks.bin').read_bytes() == before
    monkeypatch.undo()
    index.apply(log.append([change(1, 1, noise(1))], index))
    assert contents(log, index) == {(1, 0): noise(0), (1, 1): noise(1)}
    log.close()


def test_another_file_is_not_taken_for_masks(tmp_path: Path) -> None:
    (tmp_path / 'masks.bin').write_bytes(b'something else')
    with pytest.raises(ValueError, match='is not a file of masks'):
        MaskLog(tmp_path / 'masks.bin')
    assert (tmp_path / 'masks.bin').read_bytes() == b'something else'
