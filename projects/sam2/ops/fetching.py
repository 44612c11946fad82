"""Fetches files over HTTP: resumed, checked, and renamed when they are complete.

pooch does not resume, and huggingface_hub fetches from its own hub only and checks no
hash; neither keeps other processes from fetching the same file at the same time. This
module needs the standard library and filelock. It imports no torch, so that
``tools/download.py`` starts at once.
"""

import errno
import hashlib
import math
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from .files import flush_and_rename

OnProgress = Callable[[int, int | None], None]

LOCK_SECONDS = 3600.0  # some file systems do not free the locks of dead processes
SOCKET_SECONDS = 30.0  # without a byte
ATTEMPTS = 3  # before a connection that breaks off is an error
PAUSE_SECONDS = 1.0  # before the next attempt
CHUNK_BYTES = 1 << 20
PART_SUFFIX = '.part'
FULL = (errno.ENOSPC, errno.EDQUOT)
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
OTHER_MEANS = 'fetch the file by other means and give its path'


class FetchError(OSError):
    """A file cannot be fetched or stored."""


class WrongFileError(ValueError):
    """A file that was fetched is not the expected one."""


class _BrokenOffError(OSError):
    """The connection ended before the file did."""


class _LimitError(OSError):
    """The file is too large, or takes too long."""


def fetch(
    url: str,
    target: Path,
    *,
    num_bytes: int | None = None,
    sha256: str | None = None,
    max_bytes: int | None = None,
    max_seconds: float = math.inf,
    replace: bool = False,
    on_progress: OnProgress | None = None,
) -> None:
    """Fetch a file, unless it exists.

    What arrives is written to a ``.part`` file beside the target. It stays if the
    connection breaks off, and the next call goes on from there. If the server cannot
    send the rest alone, or may have another file by then, the call starts over. Any
    number of processes may call this at once: one fetches, the others wait at a file
    lock.

    Args:
        url: Address of the file, with http or https.
        target: Path of the fetched file; missing folders are created.
        num_bytes: Size of the file, if it is known.
        sha256: Hash of the file in lower-case hexadecimal, if it is known.
        max_bytes: Size of the largest file that is fetched.
        max_seconds: Time after which fetching is given up.
        replace: Fetch the file even if it exists.
        on_progress: Called with the number of bytes so far and in all; the latter is
            None if the server does not say.

    Raises:
        ValueError: If the URL is not one of http or https.
        WrongFileError: If the file does not have the given size or hash, or the server
            sends a web page.
        FetchError: If the file cannot be fetched or stored, or exceeds a limit.
    """
    transfer = _Transfer(
        url=_checked(url),
        target=target,
        num_bytes=num_bytes,
        sha256=sha256,
        max_bytes=max_bytes,
        deadline=time.monotonic() + max_seconds,
        on_progress=on_progress,
    )
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, 'Is a folder', str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        lock_path = target.with_name(f'.{target.name}.lock')
        with FileLock(lock_path, timeout=LOCK_SECONDS):
            try:
                # Another process may have fetched it by now.
                if replace or not target.is_file():
                    flush_and_rename(transfer.receive(), target)
            finally:
                with suppress(OSError):
                    lock_path.unlink()
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        msg = f'{url} cannot be fetched: {_describe(error, target.parent)}'
        raise FetchError(msg) from error


def file_name_of(url: str) -> str:
    """Return the file name at the end of a URL.

    Raises:
        ValueError: If there is none, or the URL is not one of http or https.
    """
    name = PurePosixPath(urlsplit(_checked(url)).path).name
    if name in {'', '..'}:
        msg = f'{url} names no file; give the address of a checkpoint'
        raise ValueError(msg)
    return name


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in {'http', 'https'} and bool(parts.netloc)
    except ValueError:  # brackets that do not match
        is_web = False
    if not is_web:
        msg = f'{url} is not a web address; give one with http:// or https://'
        raise ValueError(msg)
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transfer:
    """One file on its way to its ``.part`` file; the fields are those of `fetch`.

    Attributes:
        deadline: In seconds of the monotonic clock.
    """

    url: str
    target: Path
    num_bytes: int | None
    sha256: str | None
    max_bytes: int | None
    deadline: float
    on_progress: OnProgress | None

    def receive(self) -> Path:
        """Receive the file, however often the connection breaks off, and check it."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                part, was_resumed = self._receive_part()
            except (ConnectionError, TimeoutError, IncompleteRead, _BrokenOffError):
                if attempt == ATTEMPTS or time.monotonic() > self.deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
                continue
            if self.sha256 is None or (digest := sha256_of(part)) == self.sha256:
                return part
            part.unlink()
            if not was_resumed:
                msg = (
                    f'{self.url} has the SHA-256 {digest}, but {self.sha256} is '
                    f'expected: it is another file, or was changed. Nothing was kept; '
                    f'use another address or, if you trust this file, give its SHA-256'
                )
                raise WrongFileError(msg)
        msg = 'what arrived in several parts is not the expected file; try once more'
        raise _BrokenOffError(msg)

    def _receive_part(self) -> tuple[Path, bool]:
        """Receive the file, or the rest of it, in one go.

        Returns:
            The complete ``.part`` file, and whether an earlier call has begun it.
        """
        with _open(self.url) as response:
            total = self._check_headers(response)
            # What two answers for one content have in common.
            identity = self.sha256 or response.headers.get('ETag')
            identity = identity or response.headers.get('Last-Modified')
            part = self._part_of(identity)
            offset = part.stat().st_size if identity and part.is_file() else 0
            if total is None or offset > total:
                offset = 0
            _check_space(part.parent, (total or 0) - offset)
            if offset == 0:
                self._write(response, part, total)
                return part, False
        if offset != total:
            with self._open_rest(part, offset) as response:
                content_range = response.headers.get('Content-Range', '')
                if not content_range.startswith(f'bytes {offset}-'):
                    offset = 0  # it sends the whole file
                self._write(response, part, total, offset=offset)
        return part, offset > 0

    def _open_rest(self, part: Path, offset: int) -> HTTPResponse:
        """Request the rest of the file; remove a part that cannot be completed."""
        try:
            return _open(self.url, offset=offset)
        except HTTPError as error:
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            error.close()
            part.unlink()
            msg = 'the server refuses to send the rest of the file; try once more'
            raise _BrokenOffError(msg) from error

    def _check_headers(self, response: HTTPResponse) -> int | None:
        """Refuse what cannot be the file before a byte of it is stored.

        Returns:
            Number of bytes of the whole file, if the server says it.
        """
        if response.headers.get_content_type() == 'text/html':
            msg = (
                f'{self.url} answers with a web page in place of a file; open it in a '
                f'browser to see what it wants, or use another address'
            )
            raise WrongFileError(msg)
        length = response.headers.get('Content-Length', '')
        if not length.isdecimal():
            return None
        self._check_size(int(length))
        return int(length)

    def _check_size(self, num_bytes: int) -> None:
        """Refuse a size that the file cannot have or is not allowed to have."""
        if self.num_bytes not in {None, num_bytes}:
            msg = (
                f'{self.url} has {num_bytes} bytes, but {self.num_bytes} are expected: '
                f'it is another file; use another address or, if you trust this file, '
                f'give its SHA-256'
            )
            raise WrongFileError(msg)
        if self.max_bytes is not None and num_bytes > self.max_bytes:
            msg = f'it has more than {self.max_bytes} bytes'
            raise _LimitError(msg)

    def _part_of(self, identity: str | None) -> Path:
        """The file that a content is received in; parts of others are removed."""
        tag = hashlib.sha256((identity or '').encode()).hexdigest()[:8]
        name = self.target.name
        part = self.target.with_name(f'{name}.{tag}{PART_SUFFIX}')
        for path in self.target.parent.glob(f'{escape(name)}.????????{PART_SUFFIX}'):
            if path != part:
                path.unlink()
        return part

    def _write(
        self, response: HTTPResponse, part: Path, total: int | None, *, offset: int = 0
    ) -> None:
        """Write what arrives to the part, from an offset on."""
        done = offset
        with part.open('r+b' if offset else 'wb') as file:
            file.seek(offset)
            while chunk := response.read1(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                if self.on_progress is not None:
                    self.on_progress(done, total)
                if time.monotonic() > self.deadline:
                    msg = 'it takes more time than is allowed'
                    raise _LimitError(msg)
                if total is None and done > (self.num_bytes or self.max_bytes or done):
                    break  # the server did not say how much it sends
        if total is None:
            try:
                self._check_size(done)
            except (WrongFileError, _LimitError):
                part.unlink()
                raise
        elif done != total:
            msg = (
                f'the connection broke off after {done} of {total} bytes; try once '
                f'more, which goes on from there'
            )
            raise _BrokenOffError(msg)


def _open(url: str, *, offset: int = 0) -> HTTPResponse:
    """Request a file, from an offset on."""
    headers = {'Accept-Encoding': 'identity', 'User-Agent': 'mmsam2'}
    if offset:
        headers['Range'] = f'bytes={offset}-'
    request = Request(url, headers=headers)  # noqa: S310  http or https, see _checked
    response: HTTPResponse = urlopen(request, timeout=SOCKET_SECONDS)  # noqa: S310
    return response


def _check_space(folder: Path, num_bytes: int) -> None:
    """Raise an error now rather than when the disk is full."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:  # of file systems that do not tell
        return
    if num_bytes > free:
        msg = (
            f'it takes {num_bytes / 1e6:.1f} MB, and {folder} has {free / 1e6:.1f} MB '
            f'left'
        )
        raise OSError(errno.ENOSPC, msg)


def _describe(error: Exception, folder: Path) -> str:
    """Say what went wrong and what to do about it."""
    if isinstance(error, HTTPError):
        return f'{error}; check the address, or {OTHER_MEANS}'
    if isinstance(error, URLError):
        return f'{error.reason}; check the connection and the address, or {OTHER_MEANS}'
    if isinstance(error, Timeout):
        return f'{error}; another process may be fetching it'
    if isinstance(error, _BrokenOffError | _LimitError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f'{error.strerror}; free some space in {folder}, or choose another folder'
        )
    if isinstance(error, OSError) and error.errno in READ_ONLY:
        return f'{folder}: {error.strerror}; choose a folder that you may write to'
    return f'{error}; check the connection, the address and {folder}, or {OTHER_MEANS}'
