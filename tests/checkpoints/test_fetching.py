"""Checkpoints of an address: fetched into torch's cache once, by whoever asks."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from mmengine.runner import CheckpointLoader

from address_server import AddressServer, read_on_ranks, serve
from engine_processes import call_in_processes
from projects.sam2.checkpoints import released
from projects.sam2.checkpoints.key_map import map_to_released
from projects.sam2.checkpoints.reading import SOURCE_FIELD, fetch_into_cache
from projects.sam2.checkpoints.weights import MODEL_KEY
from projects.sam2.ops import fetching
from projects.sam2.ops.fetching import WrongFileError

NAME = 'sam2.pt'


def saved(content: object) -> bytes:
    """A file of torch."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


WHOLE = saved({'model': map_to_released({MODEL_KEY: torch.ones(2, 4)})})


@pytest.fixture
def server() -> Iterator[AddressServer]:
    with serve({NAME: WHOLE}) as running:
        yield running


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of ``torch.hub``."""
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


def load(url: str) -> dict[str, Any]:
    loaded = CheckpointLoader.load_checkpoint(url, map_location='cpu')
    assert isinstance(loaded, dict)
    return loaded


def files(cache: Path) -> list[str]:
    """What the cache keeps."""
    return [path.name for path in cache.iterdir()]


def test_address_is_fetched_once_and_converted(
    server: AddressServer, cache: Path
) -> None:
    for _ in range(2):
        checkpoint = load(server.url + NAME)
        assert torch.equal(checkpoint['state_dict'][MODEL_KEY], torch.ones(2, 4))
        assert checkpoint[SOURCE_FIELD] == server.url + NAME
    assert server.requested == [NAME]
    assert files(cache) == [NAME]


@pytest.mark.parametrize(
    'content',
    [WHOLE[:300], b'<html>Sign in first</html>', b''],
    ids=['cut', 'page', ''],
)
@pytest.mark.parametrize('is_cached', [False, True])
def test_bad_file_is_named_and_does_not_stay(
    content: bytes, server: AddressServer, cache: Path, *, is_cached: bool
) -> None:
    server.answers[NAME] = content
    if is_cached:
        cache.mkdir(parents=True)
        (cache / NAME).write_bytes(content)
    with pytest.raises(ValueError, match='was removed: try once more') as raised:
        load(server.url + NAME)
    assert server.url + NAME in str(raised.value)
    assert str(cache / NAME) in str(raised.value)
    assert files(cache) == []
    server.answers[NAME] = WHOLE
    assert 'state_dict' in load(server.url + NAME)


def test_file_that_only_the_device_cannot_hold_stays(
    server: AddressServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = torch.load

    def full(path: Path, *, map_location: str, **options: bool) -> object:
        if map_location == 'cuda':
            msg = 'out of memory'
            raise RuntimeError(msg)
        return read(path, map_location=map_location, **options)

    monkeypatch.setattr(torch, 'load', full)
    with pytest.raises(ValueError, match=r'out of memory.*stays: it can be read'):
        CheckpointLoader.load_checkpoint(server.url + NAME, map_location='cuda')
    assert files(cache) == [NAME]


def test_address_that_cannot_be_fetched_is_named(
    server: AddressServer, cache: Path
) -> None:
    url = f'{server.url}none.pt'
    with pytest.raises(OSError, match=r'404.*check the address') as raised:
        load(url)
    assert str(raised.value).startswith(f'{url} cannot be fetched: ')
    assert list(cache.iterdir()) == []


def test_released_file_is_checked_at_its_address(
    server: AddressServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, 'RELEASE_URL', server.url.rstrip('/'))
    weights = released.RELEASED[0]
    server.answers[weights.url.removeprefix(server.url)] = WHOLE
    with pytest.raises(WrongFileError, match=f'{weights.num_bytes} are expected'):
        load(weights.url)
    assert files(cache) == []


@pytest.mark.parametrize('path', ['', 'a/..'])
def test_address_without_a_file_name_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match='names no file'):
        fetch_into_cache(f'https://example.org/{path}')


def test_fetching_waits_for_another_process_but_not_for_ever(
    server: AddressServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, 'LOCK_SECONDS', 0.1)
    cache.mkdir(parents=True)
    with FileLock(cache / f'.{NAME}.lock'), pytest.raises(OSError, match='lock'):
        fetch_into_cache(server.url + NAME)
    assert server.requested == []


@pytest.mark.parametrize('ranks', [[1], [0, 1]])
def test_any_processes_of_a_group_read_and_one_of_them_fetches(
    ranks: list[int], server: AddressServer, cache: Path
) -> None:
    argument = {'url': server.url + NAME, 'hub': str(cache.parent), 'ranks': ranks}
    assert call_in_processes(read_on_ranks, argument, 2) == [0, 0]
    assert server.requested == [NAME]
