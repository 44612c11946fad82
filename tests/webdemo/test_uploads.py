"""Tests of uploads: what is taken, what is refused, and that nothing is left behind."""

import asyncio
import contextlib
import io
import os
import shutil
import socket
import struct
import time
import zlib
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import cv2
import httpx
import numpy as np
import pytest
from PIL import Image

from demo_server import MINI_CONFIG, MINI_WEIGHTS, DemoServer, running_demo
from projects.sam2.webdemo.server import uploads
from projects.sam2.webdemo.server.app import DemoOptions
from projects.sam2.webdemo.server.security import RequestError
from projects.sam2.webdemo.server.uploads import UploadStore, clean_name

LIMIT = 2**20


def png(size: tuple[int, int] = (8, 6)) -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.new('RGB', size, (10, 200, 30)).save(file, 'PNG')
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header claims 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + checksum

    header = struct.pack('>IIBBBBB', 100_000, 100_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b'\0' * 1000)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', rows)


@pytest.fixture(scope='module')
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    """A server that takes uploads of up to a megabyte."""
    folder = tmp_path_factory.mktemp('small')
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=folder,
        roots=(folder,),
        max_upload_bytes=LIMIT,
    )
    with running_demo(options) as running:
        yield running


@pytest.fixture
def stored(small_server: DemoServer) -> Callable[[], list[str]]:
    """Lists the files that lie in the folder of uploads."""
    root = Path(small_server.http.get('/api/info').json()['roots'][0]) / 'uploads'
    return lambda: sorted(p.name for p in root.rglob('*') if p.is_file())


def send(
    server: DemoServer, name: str, content: object, **query: str
) -> tuple[int, str]:
    """Upload a file; return the status and the id, or the error."""
    response = server.http.post(
        '/api/uploads',
        params={'name': name, **query},
        content=content,  # type: ignore[arg-type]
    )
    answer = response.json()
    return response.status_code, answer.get('upload') or answer['error']


@pytest.mark.parametrize(
    ('name', 'content', 'status'),
    [
        ('clip.mp4', b'MZ' + b'\0' * 100, 415),
        ('clip.mp4', b'#EXTM3U\n/etc/passwd\n', 415),
        ('clip.mp4', b'ffconcat version 1.0\nfile /etc/passwd\n', 415),
        ('clip.mp4', png(), 415),
        ('clip.mp4', b'\0\0\0\x18ftypmp42' + b'\0' * 50, 415),
        ('clip.mp4', b'', 415),
        ('page.html', b'<script>', 415),
        ('tool.sh', b'#!/bin/sh', 415),
        ('picture.svg', b'<svg onload=alert(1)>', 415),
        ('picture.png', b'<svg onload=alert(1)>', 415),
        ('picture.png', b'%!PS', 415),
        ('picture.png', bomb(), 415),
        ('picture.jpg', b'\xff\xd8\xff', 415),
        ('masks.zip', b'PK\3\4 nothing', 415),
        ('masks.json', b'\0\1\2', 415),
        ('', png(), 400),
        ('..', png(), 400),
        ('/', png(), 400),
        ('.png', png(), 415),
        ('a/' * 9 + 'b.png', png(), 400),
        ('large.json', b'[' + b' ' * LIMIT + b']', 413),
    ],
)
def test_what_is_no_video_image_or_annotation_is_refused(
    small_server: DemoServer,
    stored: Callable[[], list[str]],
    name: str,
    content: bytes,
    status: int,
) -> None:
    before = stored()
    got, error = send(small_server, name, content)
    assert got == status, error
    assert stored() == before
    assert 'uploads/' not in error


def test_an_endless_upload_ends_at_the_limit(
    small_server: DemoServer, stored: Callable[[], list[str]]
) -> None:
    def endless() -> Iterator[bytes]:
        yield b'\0\0\0\x18ftypmp42'
        for _ in range(10_000):
            yield b'\0' * 65536

    def little_more() -> Iterator[bytes]:  # than the limit, and nobody says so
        yield from (b' ' * 65536 for _ in range(LIMIT // 65536 + 1))

    before = stored()
    assert send(small_server, 'a.json', little_more())[0] == 413
    with contextlib.suppress(httpx.TransportError):  # the server may hang up first
        assert send(small_server, 'clip.mp4', endless())[0] == 413
    assert small_server.http.get('/api/health').status_code == 200
    assert stored() == before


def test_an_upload_that_breaks_off_leaves_nothing(
    small_server: DemoServer, stored: Callable[[], list[str]]
) -> None:
    before = stored()
    host, port = small_server.address.removeprefix('http://').split(':')
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b'POST /api/uploads?name=a.png HTTP/1.1\r\nHost: localhost\r\n'
            b'Content-Length: 5000\r\n\r\n' + png()
        )
        time.sleep(0.2)
    end = time.monotonic() + 10
    while stored() != before:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_video_is_uploaded_and_annotated(
    small_server: DemoServer, tmp_path: Path
) -> None:
    path = tmp_path / 'clip.avi'
    code = cv2.VideoWriter_fourcc(*'MJPG')  # type: ignore[attr-defined]
    writer = cv2.VideoWriter(str(path), code, 10, (64, 48))
    for index in range(5):
        writer.write(np.full((48, 64, 3), 40 * index, np.uint8))
    writer.release()
    name = '..\\..//<b>x</b>/C:\\clips/Ünï .avi'
    status, upload = send(small_server, name, path.read_bytes())
    assert status == 201
    session = small_server.new_session(upload)
    state = small_server.state_of(session)
    assert (state['num_frames'], state['kind']) == (5, 'video')
    assert Path(state['source']).read_bytes() == path.read_bytes()
    assert Path(state['source']).is_relative_to(small_server_root(small_server))
    # With the last session that shows it, the upload goes as well.
    assert small_server.http.delete(f'/api/sessions/{session}').status_code == 204
    assert not Path(state['source']).exists()


def small_server_root(server: DemoServer) -> Path:
    """The root of the server."""
    return Path(server.http.get('/api/info').json()['roots'][0])


def test_several_images_are_one_upload(small_server: DemoServer) -> None:
    status, upload = send(small_server, 'photos/b.png', png())
    assert status == 201
    assert send(small_server, 'photos/a.png', png((30, 20)), upload=upload) == (
        201,
        upload,
    )
    assert send(small_server, 'photos/a.png', png(), upload=upload)[0] == 409
    assert send(small_server, 'c.png', png(), upload='upload:' + '0' * 32)[0] == 404
    assert send(small_server, 'c.png', png(), upload='../..')[0] == 404
    session = small_server.new_session(upload)
    state = small_server.state_of(session)
    assert (state['num_frames'], state['kind'], state['name']) == (
        2,
        'images',
        'photos',
    )


# Without a server --------------------------------------------------------------------


def receive(store: UploadStore, *chunks: bytes, name: str = 'a.png') -> str:
    """Upload chunks."""

    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def run() -> str:
        return await store.receive(name, stream())

    return asyncio.run(run())


def test_a_silent_upload_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, 'IDLE_SECONDS', 0.05)
    store = UploadStore(tmp_path, LIMIT)

    async def silent() -> AsyncIterator[bytes]:
        yield png()[:10]
        await anyio.sleep(60)

    async def run() -> None:
        await store.receive('a.png', silent())

    with pytest.raises(RequestError, match='No data came') as error:
        asyncio.run(run())
    assert error.value.status == 408
    assert list(tmp_path.iterdir()) == []
    assert receive(store, png())  # its slot is free again


def test_uploads_leave_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple('usage', 'total used free')
    full = usage(10**9, 10**9 - 10**6, 10**6)
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: full)
    with pytest.raises(RequestError, match='is full') as error:
        receive(UploadStore(tmp_path, LIMIT), png())
    assert error.value.status == 507
    assert list(tmp_path.iterdir()) == []


def test_only_some_uploads_run_at_once(tmp_path: Path) -> None:
    store = UploadStore(tmp_path, LIMIT)

    async def run() -> list[object]:
        go_on = asyncio.Event()

        async def waiting() -> AsyncIterator[bytes]:
            await go_on.wait()
            yield png()

        tasks = [
            asyncio.ensure_future(store.receive('a.png', waiting()))
            for _ in range(uploads.MAX_CONCURRENT + 1)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    results = asyncio.run(run())
    refused = [r for r in results if isinstance(r, RequestError)]
    assert [error.status for error in refused] == [429]
    assert len({r for r in results if isinstance(r, str)}) == uploads.MAX_CONCURRENT


def test_the_limit_is_that_of_all_files_of_an_upload(tmp_path: Path) -> None:
    content = png()

    async def send_to(store: UploadStore, name: str, upload: str | None) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return await store.receive(name, chunks(), upload=upload)

    async def run() -> int:
        store = UploadStore(tmp_path, 4 * len(content))
        upload = await send_to(store, '0.png', None)
        await asyncio.gather(*(send_to(store, f'{i}.png', upload) for i in (1, 2)))
        # A server that is started again counts the files that are there.
        store = UploadStore(tmp_path, 4 * len(content))
        await send_to(store, '3.png', upload)
        with pytest.raises(RequestError) as error:
            await send_to(store, '4.png', upload)
        return error.value.status

    assert asyncio.run(run()) == 413
    assert len(list(tmp_path.rglob('*.png'))) == 4


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / ('0' * 32)
    folder.mkdir()
    old, young = (folder / f'.{digit * 32}.partial.mp4' for digit in '12')
    for partial in (old, young):
        partial.write_bytes(b'x')
    os.utime(old, (0, time.time() - uploads.IDLE_SECONDS - 1))
    UploadStore(tmp_path, LIMIT)
    assert not old.exists()
    assert young.exists()  # another server may be receiving it


def test_unused_uploads_are_deleted_after_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = UploadStore(tmp_path, LIMIT)
    used, unused = (store.path(receive(store, png())) for _ in range(2))
    store.remove_unused([used])
    assert used.exists()
    assert unused.exists()
    monkeypatch.setattr(uploads, 'UNUSED_SECONDS', -1)
    store.remove_unused([used])
    assert used.exists()
    assert not unused.parent.exists()


@pytest.mark.parametrize(
    ('name', 'cleaned'),
    [
        ('clip.mp4', 'clip.mp4'),
        ('CLIP.MP4', 'CLIP.MP4'),
        ('../../etc/a.png', 'etc/a.png'),
        ('/abs/a.png', 'abs/a.png'),
        ('C:\\x\\a.png', 'C/x/a.png'),
        ('.hidden.png', 'hidden.png'),
        ('a\0b\n.png', 'ab.png'),
        ('a\u202egnp.png', 'agnp.png'),
        ('Ünï code.png', 'Ünï code.png'),
        ('x' * 300 + '.png', 'x' * 116 + '.png'),
    ],
)
def test_names_are_cleaned(name: str, cleaned: str) -> None:
    result = clean_name(name)
    assert str(result) == cleaned
    assert len(result.name) <= uploads.MAX_PART
