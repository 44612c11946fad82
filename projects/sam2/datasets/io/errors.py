"""Errors of clips that cannot be used, and limits on what a file may ask for."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

Video = TypeVar('Video')
MAX_TEXT = 400  # characters of a path, a name or a problem in an error
# Remedies
REPLACE_FILE = 'replace the file or put the clip on the exclude list'
COMPLETE_DATA = (
    'complete the data, or remove the clip from the list or put it on the exclude list'
)
RAISE_LIMIT = 'if the file is right, raise {} in the limits of the dataset'


class ClipDataError(ValueError):
    """A file of a clip cannot be used.

    Training skips and counts such a clip; validation stops.

    Attributes:
        problem: The message without the remedy.
    """

    # One argument only: torch rebuilds the error of a loader's worker from its text.
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.problem = message

    @classmethod
    def at(cls, where: Path | str, problem: str, remedy: str) -> 'ClipDataError':
        """Build the error ``<where>: <problem>; <remedy>``."""
        text = f'{shorten(str(where))}: {shorten(problem)}'
        error = cls(f'{text}; {remedy}')
        error.problem = text
        return error


class ClipDrawError(ClipDataError):
    """Random choices left nothing of a clip; another draw may succeed."""


def shorten(text: str) -> str:
    """Cut the middle out of a long text; names in files may have megabytes."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f'{text[:half]}… ({len(text) - 2 * half} characters) …{text[-half:]}'


@contextmanager
def clip_errors(where: Path | str) -> Iterator[None]:
    """Turn any error of reading a clip into a :class:`ClipDataError`.

    Damaged files make decoders and parsers raise almost anything (``OverflowError``,
    ``RecursionError``, ``MemoryError``, ``cv2.error``, …), which must not end a run
    that can do without the clip. A missing package is not the clip's fault, so
    ``ImportError`` passes.
    """
    try:
        yield
    except (ClipDataError, ImportError):
        raise
    except Exception as error:
        problem = f'cannot be read ({type(error).__name__}: {error})'
        raise ClipDataError.at(where, problem, REPLACE_FILE) from error


def reports_clip_errors(
    open_video: Callable[[Any, str], Video],
) -> Callable[[Any, str], Video]:
    """Decorate ``open_video`` of a dataset with :func:`clip_errors`."""

    @wraps(open_video)
    def reporting(dataset: Any, name: str) -> Video:
        with clip_errors(f'{dataset.data_root or "."}: clip {name}'):
            return open_video(dataset, name)

    return reporting


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """What a file of a dataset may ask for at most.

    Attributes:
        max_pixels: Pixels of an image.
        max_file_size: Bytes of a file that is read as a whole (not of a video).
        max_mask_bytes: Bytes of all masks that are decoded for one frame.
    """

    max_pixels: int = 2**27
    max_file_size: int = 2**31
    max_mask_bytes: int = 2**31

    @classmethod
    def of(cls, settings: Mapping[str, int] | None) -> 'ReadLimits':
        """Read the limits of a config: values by name, None for the defaults.

        Raises:
            ValueError: If a name is unknown or a value is not positive.
        """
        settings = dict(settings or {})
        names = cls.__dataclass_fields__
        if not settings.keys() <= names.keys() or any(
            value < 1 for value in settings.values()
        ):
            msg = f'limits {settings}: give positive numbers for {", ".join(names)}'
            raise ValueError(msg)
        return cls(**settings)

    def check_pixels(self, where: Path | str, height: int, width: int) -> None:
        """Refuse an image or a mask that is empty or larger than ``max_pixels``."""
        claim = f'claims {height} x {width} pixels'
        if height < 1 or width < 1:
            raise ClipDataError.at(where, claim, REPLACE_FILE)
        if height * width > self.max_pixels:
            problem = f'{claim}, more than max_pixels={self.max_pixels}'
            raise ClipDataError.at(where, problem, RAISE_LIMIT.format('max_pixels'))

    def check_masks(
        self, where: Path | str, num_objects: int, size: tuple[int, int]
    ) -> None:
        """Refuse to decode masks that need more than ``max_mask_bytes`` in all."""
        num_bytes = num_objects * size[0] * size[1]
        if num_bytes > self.max_mask_bytes:
            problem = (
                f'{num_objects} masks of {size[0]} x {size[1]} need {num_bytes} bytes, '
                f'more than max_mask_bytes={self.max_mask_bytes}'
            )
            raise ClipDataError.at(where, problem, RAISE_LIMIT.format('max_mask_bytes'))


DEFAULT_LIMITS = ReadLimits()


def read_bytes(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> bytes:
    """Read a whole file, see :func:`check_file`."""
    check_file(path, limits.max_file_size)
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error


def check_file(path: Path, max_file_size: int | None = None) -> os.stat_result:
    """Check a file without opening it: a pipe would block.

    Args:
        max_file_size: In bytes; None for no limit.

    Raises:
        ClipDataError: If the file is missing, too large, or not a regular file.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ClipDataError.at(path, 'is missing', COMPLETE_DATA) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if not stat.S_ISREG(status.st_mode):
        raise ClipDataError.at(path, 'is not a regular file', REPLACE_FILE)
    if max_file_size is not None and status.st_size > max_file_size:
        problem = f'has {status.st_size} bytes, more than max_file_size={max_file_size}'
        raise ClipDataError.at(path, problem, RAISE_LIMIT.format('max_file_size'))
    return status
