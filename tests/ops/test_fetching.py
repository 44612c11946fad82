"""Files are fetched whole, resumed, checked, and never half-written."""

import hashlib
import random
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from address_server import AddressServer, Ranges, serve
from projects.sam2.ops import fetching
from projects.sam2.ops.fetching import FetchError, WrongFileError, fetch

NAME = 'weights.pt'
CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b'').hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AddressServer]:
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(fetching, 'PAUSE_SECONDS', 0.0)
    with serve({NAME: CONTENT}) as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / 'new' / NAME


def break_off(server: AddressServer, target: Path, sha256: str | None) -> Path:
    """Let all connections of a call break off at one byte; return what is left."""
    server.cuts[:] = [1000] * 9
    with pytest.raises(FetchError, match=r'broke off after 1000 of 300000 bytes'):
        fetch(server.url + NAME, target, sha256=sha256)
    server.cuts.clear()
    server.starts.clear()
    (part,) = target.parent.iterdir()
    return part


def files(target: Path) -> list[str]:
    """Names of the files beside the target."""
    return sorted(path.name for path in target.parent.iterdir())


def test_file_is_fetched_once_with_its_progress(
    server: AddressServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, 'CHUNK_BYTES', 100_000)
    steps: list[tuple[int, int | None]] = []
    for _ in range(2):
        fetch(
            server.url + NAME,
            target,
            num_bytes=len(CONTENT),
            sha256=SHA256,
            on_progress=lambda done, total: steps.append((done, total)),
        )
    assert target.read_bytes() == CONTENT
    assert files(target) == [NAME]
    assert server.requested == [NAME]
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize('sha256', [SHA256, None])
def test_next_call_goes_on_where_the_last_one_broke_off(
    server: AddressServer, target: Path, sha256: str | None
) -> None:
    part = break_off(server, target, sha256)
    assert part.read_bytes() == CONTENT[:1000]
    assert part.name.startswith(NAME)
    assert part.suffix == '.part'
    fetch(server.url + NAME, target, sha256=sha256)
    assert target.read_bytes() == CONTENT
    assert files(target) == [NAME]
    assert server.starts[-1] == 1000


def test_short_break_is_bridged_within_a_call(
    server: AddressServer, target: Path
) -> None:
    # The answers: 1000 bytes of the file; it again, not read; the rest up to 5000; …
    server.cuts[:] = [1000, len(CONTENT), 5000]
    fetch(server.url + NAME, target)
    assert target.read_bytes() == CONTENT
    assert server.starts == [0, 0, 1000, 0, 5000]


@pytest.mark.parametrize('ranges', [Ranges.IGNORED, Ranges.REFUSED])
def test_server_that_cannot_send_the_rest_sends_the_whole(
    server: AddressServer, target: Path, ranges: Ranges
) -> None:
    server.ranges = ranges
    server.cuts[:] = [1000]
    fetch(server.url + NAME, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert set(server.starts) == {0}
    # Cut; whole, not read; asked for the rest; whole again if that was refused.
    num_requests = 3 if ranges is Ranges.IGNORED else 4
    assert len(server.requested) == num_requests


@pytest.mark.parametrize('has_tag', [True, False])
def test_parts_of_two_files_are_never_joined(
    server: AddressServer, target: Path, *, has_tag: bool
) -> None:
    if not has_tag:
        server.headers['ETag'] = None
    break_off(server, target, None)
    server.answers[NAME] = changed = CONTENT[::-1]
    fetch(server.url + NAME, target)
    assert target.read_bytes() == changed
    assert files(target) == [NAME]


def test_damaged_part_is_fetched_again(server: AddressServer, target: Path) -> None:
    part = break_off(server, target, SHA256)
    part.write_bytes(bytes(1000))
    fetch(server.url + NAME, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    # A part that is longer than the file, and one that is complete.
    for length in (len(CONTENT) + 1, len(CONTENT)):
        target.unlink()
        part.write_bytes(CONTENT.ljust(length))
        server.requested.clear()
        fetch(server.url + NAME, target, sha256=SHA256)
        assert target.read_bytes() == CONTENT
        assert server.requested == [NAME]


@pytest.mark.parametrize('has_length', [True, False])
@pytest.mark.parametrize(
    ('expected', 'message'),
    [
        ({'sha256': OTHER}, f'has the SHA-256 {SHA256}, but {OTHER} is expected'),
        ({'num_bytes': 5}, r'has \d+ bytes, but 5 are expected'),
    ],
)
def test_another_file_is_refused(
    server: AddressServer,
    target: Path,
    expected: dict[str, str | int],
    message: str,
    *,
    has_length: bool,
) -> None:
    if not has_length:
        server.headers['Content-Length'] = None
    with pytest.raises(WrongFileError, match=message):
        fetch(server.url + NAME, target, **expected)  # type: ignore[arg-type]
    assert files(target) == []


def test_web_page_is_refused(server: AddressServer, target: Path) -> None:
    server.answers[NAME] = b'<html>Sign in first</html>'
    server.headers['Content-Type'] = 'text/html; charset=utf-8'
    with pytest.raises(WrongFileError, match='answers with a web page'):
        fetch(server.url + NAME, target)
    assert files(target) == []


@pytest.mark.parametrize('has_length', [True, False])
def test_fetching_is_bounded(
    server: AddressServer,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_length: bool,
) -> None:
    monkeypatch.setattr(fetching, 'CHUNK_BYTES', 700)
    sizes: list[int] = []
    if not has_length:
        server.headers['Content-Length'] = None
    for limits, message in (
        ({'max_bytes': 1000}, 'more than 1000 bytes'),
        ({'max_seconds': 0.0}, 'more time than is allowed'),
    ):
        with pytest.raises(FetchError, match=message):
            fetch(
                server.url + NAME,
                target,
                on_progress=lambda done, _: sizes.append(done),
                **limits,
            )
        assert not target.exists()
    assert max(sizes) <= 1400  # the rest was not waited for


def test_missing_file_and_missing_network_are_named(
    server: AddressServer, target: Path
) -> None:
    with pytest.raises(FetchError, match=r'none\.pt cannot be fetched: .*404.*check'):
        fetch(f'{server.url}none.pt', target)
    with pytest.raises(FetchError, match=r'refused; check the connection'):
        fetch('http://127.0.0.1:9/weights.pt', target)  # the port that discards
    for url in ('ftp://example.org/weights.pt', 'http://[x/weights.pt', NAME):
        with pytest.raises(ValueError, match='is not a web address'):
            fetch(url, target)
    assert files(target) == []


def test_full_disk_is_noticed_before_and_while_writing(
    server: AddressServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', lambda _: usage)
        with pytest.raises(
            FetchError, match=r'takes 0\.3 MB, .* has 0\.0 MB left; free'
        ):
            fetch(server.url + NAME, target, sha256=SHA256)
        assert files(target) == []
    part = break_off(server, target, SHA256)
    part.unlink()
    part.symlink_to('/dev/full')  # each write to it fails as on a full disk
    with pytest.raises(FetchError, match='No space left on device; free some space'):
        fetch(server.url + NAME, target, sha256=SHA256)
    assert not target.exists()


def test_folder_that_cannot_be_written_to_is_named(
    server: AddressServer, tmp_path: Path
) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(FetchError, match=str(tmp_path / 'file')):
        fetch(server.url + NAME, tmp_path / 'file' / NAME)
    with pytest.raises(FetchError, match='Is a folder'):
        fetch(server.url + NAME, tmp_path)
    # Not even root may write there.
    with pytest.raises(FetchError, match=r'/sys.*a folder that you may write to'):
        fetch(server.url + NAME, Path('/sys/sam2') / NAME)
    assert server.requested == []


def test_many_at_once_fetch_once(server: AddressServer, target: Path) -> None:
    start = threading.Barrier(8)

    def visit(_: int) -> None:
        start.wait()
        fetch(server.url + NAME, target, sha256=SHA256)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(8)))
    assert server.requested == [NAME]
    assert target.read_bytes() == CONTENT
    assert files(target) == [NAME]
