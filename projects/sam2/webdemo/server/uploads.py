"""Files that a page sends: written to disk as they come, under limits.

    <folder>/<id>/clip.mp4                  one file
    <folder>/<id>/clip/00000.jpg, …         several, of one folder

A file is a video, an image, or annotations (JSON, XML, ZIP), known by its first bytes
and not by its name. Until it is complete and checked it has another name.
"""

import asyncio
import itertools
import os
import re
import shutil
import time
import unicodedata
import uuid
import zipfile
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import anyio

from ...datasets.io.errors import ClipDataError
from ...datasets.io.frames import VideoFileFrames
from ...datasets.io.images import image_size
from .security import RequestError

PREFIX = 'upload:'  # of an upload's name in requests
VIDEO_SUFFIXES = (
    '.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.ts', '.mts',
    '.flv', '.wmv', '.ogv', '.ogg', '.gif',
)  # fmt: skip
UPLOADED_IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
ANNOTATION_SUFFIXES = ('.json', '.xml', '.txt', '.zip')
SUFFIXES = (*VIDEO_SUFFIXES, *UPLOADED_IMAGES, *ANNOTATION_SUFFIXES)
MAX_CONCURRENT = 8
MAX_FILES = 100_000  # of one upload
MAX_DEPTH = 8  # folders
MAX_PART = 120  # characters of a file's or folder's name
MAX_TEXT_BYTES = 512 * 2**20  # of annotations
IDLE_SECONDS = 30.0  # without data, then the upload is ended
MIN_FREE_BYTES = 256 * 2**20  # what an upload leaves free on the disk
CHECK_BYTES = 32 * 2**20  # after which the free space is looked at again
UNUSED_SECONDS = 24 * 3600  # then an upload that no session uses is deleted
NAME = re.compile('[0-9a-f]{32}')


def clean_name(name: str) -> PurePosixPath:
    r"""Make a safe relative path of a file name that a page sends.

    Folders are kept, since annotations lie in some. ``..``, drives, hidden names and
    characters that a file system or a page may misread are removed.

    Raises:
        RequestError: If no name is left, or its suffix is none that we read.
    """
    parts = []
    for part in re.split(r'[/\\]', unicodedata.normalize('NFC', name)):
        kept = ''.join(c for c in part if c.isprintable() and c not in '<>:"|?*\0')
        kept = kept.strip(' .')
        if kept:
            stem, dot, suffix = kept.rpartition('.')
            parts.append(f'{stem[: MAX_PART - len(suffix)]}{dot}{suffix}'[-MAX_PART:])
    if not parts or len(parts) > MAX_DEPTH:
        raise RequestError(400, 'The file has no usable name; rename it, as clip.mp4')
    suffix = PurePosixPath(parts[-1]).suffix.lower()
    if suffix not in SUFFIXES:
        msg = (
            f'{parts[-1]} is neither a video, an image nor annotations; give a file '
            f'with one of the suffixes {", ".join(SUFFIXES)}'
        )
        raise RequestError(415, msg)
    return PurePosixPath(*parts)


class UploadStore:
    """The folder of uploaded files.

    Args:
        folder: Where they are.
        max_bytes: Limit of one upload, all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._running = 0
        # Bytes and files of the uploads; reading a large folder for each file is slow.
        self._totals: dict[str, tuple[int, int]] = {}
        for partial in folder.glob('**/.*.partial*'):
            # Another server with the same folder may be writing a younger one.
            if time.time() - partial.stat().st_mtime > IDLE_SECONDS:
                partial.unlink(missing_ok=True)

    async def receive(
        self,
        name: str,
        chunks: AsyncIterator[bytes],
        *,
        num_bytes: int | None = None,
        upload: str | None = None,
    ) -> str:
        """Write a file as it comes.

        Args:
            name: The user's name of it.
            chunks: Its content.
            num_bytes: Its size, if the page says it.
            upload: Name of an upload to add the file to; None for a new one.

        Returns:
            Name of the upload, ``upload:<id>``.

        Raises:
            RequestError: If the file is too large or none that we read, the disk is
                full, no data comes, or too many uploads run.
        """
        relative = clean_name(name)
        folder = self._folder_of(upload) if upload else self.folder / uuid.uuid4().hex
        target = folder.joinpath(*relative.parts)
        with self._slot():
            total = self._totals.get(folder.name)
            if total is None:
                total = await asyncio.to_thread(_measure, folder)
            used, num_files = total
            if num_files >= MAX_FILES:
                msg = f'An upload has at most {MAX_FILES} files; make several'
                raise RequestError(413, msg)
            limit = self.max_bytes - used
            if relative.suffix.lower() in ANNOTATION_SUFFIXES[:-1]:
                limit = min(limit, MAX_TEXT_BYTES)
            if target.exists():
                msg = f'{relative} was uploaded before; give the files different names'
                raise RequestError(409, msg)
            self._check_size(num_bytes or 0, limit)
            partial = target.with_name(f'.{uuid.uuid4().hex}.partial{target.suffix}')
            try:
                partial.parent.mkdir(parents=True, exist_ok=True)
                await self._write(partial, chunks, limit)
                await asyncio.to_thread(_check_content, partial, relative)
                size = partial.stat().st_size
                partial.rename(target)
                # Others may have come meanwhile.
                used, num_files = self._totals.get(folder.name, total)
                self._totals[folder.name] = used + size, num_files + 1
            finally:
                partial.unlink(missing_ok=True)
                _remove_empty(partial.parent, self.folder)
        return PREFIX + folder.name

    def path(self, upload: str) -> Path:
        """Path of an upload: the file, or the innermost folder that holds all files.

        Raises:
            RequestError: If there is no such upload.
        """
        path = self._folder_of(upload)
        while path.is_dir():
            entries = list(itertools.islice(path.iterdir(), 2))
            if len(entries) != 1:
                break
            path = entries[0]
        return path

    def remove(self, upload_folder: Path) -> None:
        """Delete the upload that a path belongs to, if it belongs to one."""
        if upload_folder.is_relative_to(self.folder) and upload_folder != self.folder:
            top = upload_folder.relative_to(self.folder).parts[0]
            self._totals.pop(top, None)
            shutil.rmtree(self.folder / top, ignore_errors=True)

    def remove_unused(self, used: Collection[Path]) -> None:
        """Delete uploads of yesterday that none of the paths belongs to."""
        if not self.folder.is_dir():
            return
        for folder in self.folder.iterdir():
            is_old = time.time() - folder.stat().st_mtime > UNUSED_SECONDS
            if is_old and not any(path.is_relative_to(folder) for path in used):
                self._totals.pop(folder.name, None)
                shutil.rmtree(folder, ignore_errors=True)

    def _folder_of(self, upload: str) -> Path:
        name = upload.removeprefix(PREFIX)
        folder = self.folder / name
        if not NAME.fullmatch(name) or not folder.is_dir():
            raise RequestError(404, 'There is no such upload; send the file again')
        return folder

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._running >= MAX_CONCURRENT:
            msg = f'{MAX_CONCURRENT} uploads are running; wait until one has ended'
            raise RequestError(429, msg)
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def _check_size(self, num_bytes: int, limit: int) -> None:
        if num_bytes > limit:
            msg = (
                f'The upload has more than {limit / 2**20:.4g} MB; copy the file to '
                f'this computer and open it by its path, or start the demo with a '
                f'larger --max-upload-gb'
            )
            raise RequestError(413, msg)
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free - num_bytes < MIN_FREE_BYTES:
            msg = f'The disk of {self.folder} is full; free space, then send it again'
            raise RequestError(507, msg)

    async def _write(
        self, path: Path, chunks: AsyncIterator[bytes], limit: int
    ) -> None:
        written, checked = 0, 0
        with path.open('xb') as file:
            while True:
                try:
                    with anyio.fail_after(IDLE_SECONDS):
                        chunk = await anext(chunks, None)
                except TimeoutError:
                    msg = f'No data came for {IDLE_SECONDS:g} s; send the file again'
                    raise RequestError(408, msg) from None
                if chunk is None:
                    break
                written += len(chunk)
                if written > limit or written - checked > CHECK_BYTES:
                    self._check_size(written if written > limit else 0, limit)
                    checked = written
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_flush, file)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _measure(folder: Path) -> tuple[int, int]:
    """Bytes and number of files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob('*') if path.is_file()]
    return sum(sizes), len(sizes)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder, and those above it, if a failed upload left them empty."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _check_content(path: Path, name: PurePosixPath) -> None:
    """Refuse a file whose content is not what its name says, or that claims too much.

    Raises:
        RequestError: If it is refused.
    """
    with path.open('rb') as file:
        begin = file.read(512)
    suffix = name.suffix.lower()
    problem = ''
    if suffix == '.zip':
        problem = '' if zipfile.is_zipfile(path) else 'is not a ZIP file'
    elif suffix in ANNOTATION_SUFFIXES:
        problem = 'is not text' if b'\0' in begin or not begin.strip() else ''
    else:
        try:
            if suffix in UPLOADED_IMAGES:
                image_size(path)  # from the header; refuses decompression bombs
            else:
                VideoFileFrames(path, only_mp4=False)
        except ClipDataError as error:
            problem = error.problem.removeprefix(f'{path}: ')
    if problem:
        msg = f'{name.name} {problem}; send a file that a player or viewer opens'
        raise RequestError(415, msg)
