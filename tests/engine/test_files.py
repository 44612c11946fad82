"""Checkpoints are written atomically and in plain types."""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from mmengine.fileio import get_file_backend

from projects.sam2.engine.files import ATOMIC_BACKEND, SAM2AtomicBackend, to_plain


@pytest.fixture
def backend() -> SAM2AtomicBackend:
    backend = get_file_backend(backend_args={'backend': ATOMIC_BACKEND})
    assert isinstance(backend, SAM2AtomicBackend)
    return backend


def test_bytes_and_text_are_written_into_new_folders(
    backend: SAM2AtomicBackend, tmp_path: Path
) -> None:
    backend.put(b'\x00\xff', tmp_path / 'new' / 'weights.pth')
    backend.put_text('Größe', str(tmp_path / 'new' / 'note'))
    assert (tmp_path / 'new' / 'weights.pth').read_bytes() == b'\x00\xff'
    assert (tmp_path / 'new' / 'note').read_text(encoding='utf-8') == 'Größe'
    assert sorted(p.name for p in (tmp_path / 'new').iterdir()) == [
        'note',
        'weights.pth',
    ]


@pytest.mark.parametrize('function', ['fsync', 'replace'])
def test_failed_write_keeps_the_old_content_and_leaves_nothing_behind(
    backend: SAM2AtomicBackend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
) -> None:
    path = tmp_path / 'weights.pth'
    backend.put(b'old', path)

    def fail(*_: object, **__: object) -> None:
        msg = 'No space left on device'
        raise OSError(msg)

    monkeypatch.setattr(os if function == 'fsync' else Path, function, fail)
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


def test_target_is_untouched_until_the_content_is_on_the_disk(
    backend: SAM2AtomicBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'weights.pth'
    backend.put(b'old', path)
    seen: list[bytes] = []
    flush = os.fsync

    def spy(descriptor: int) -> None:
        seen.append(path.read_bytes())
        flush(descriptor)

    monkeypatch.setattr(os, 'fsync', spy)
    backend.put(b'new', path)
    # The file is flushed before it is renamed, the folder after that.
    assert seen == [b'old', b'new']


def test_partial_file_of_a_killed_process_is_overwritten(
    backend: SAM2AtomicBackend, tmp_path: Path
) -> None:
    (tmp_path / '.weights.partial.pth').write_bytes(b'half of someth')
    backend.put(b'new', tmp_path / 'weights.pth')
    assert [p.name for p in tmp_path.iterdir()] == ['weights.pth']


def test_numpy_types_become_plain_at_any_depth() -> None:
    given = OrderedDict(
        score=np.float64(0.5),
        sizes=(np.int64(2), [np.array([1, 2])]),
        rest={'text': 'a', 'none': None},
    )
    plain = to_plain(given)
    assert plain == {
        'score': 0.5,
        'sizes': (2, [[1, 2]]),
        'rest': {'text': 'a', 'none': None},
    }
    assert type(plain) is dict
    assert type(plain['score']) is float
    assert type(plain['sizes'][0]) is int
