"""What is wrong with a clip, and how to mend it."""

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
REPLACE_CLIP = 'replace its files or put it on the exclude list'


class ClipDataError(ValueError):
    """A file of a clip cannot be used.

    Training skips and counts such a clip; validation stops.
    """

    @classmethod
    def at(cls, where: Path | str, problem: str, remedy: str) -> 'ClipDataError':
        """Describe a problem.

        Returns:
            The error, to be raised. (It takes one text, as an exception must that a
            loader's worker hands to the main process.)
        """
        return cls(f'{abbreviate(str(where))}: {abbreviate(problem)}; {remedy}')

    @property
    def problem(self) -> str:
        """The text without the remedy, for a reader that knows a better one."""
        problem, separator, remedy = str(self).rpartition('; ')
        return problem if separator else remedy


class ClipDrawError(ClipDataError):
    """Random choices left nothing of a clip; another draw may succeed."""


def abbreviate(text: str) -> str:
    """Cut the middle out of a long text, since names in files may have megabytes.

    Returns:
        The text, at most 400 characters of it and a note of what was cut.
    """
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    num_cut = len(text) - 2 * half
    return f'{text[:half]}… ({num_cut} characters) …{text[-half:]}'


@contextmanager
def clip_errors(where: Path | str) -> Iterator[None]:
    """Turn any error of reading a clip into a :class:`ClipDataError`.

    Damaged files make decoders and parsers raise almost anything (``OverflowError``,
    ``RecursionError``, ``MemoryError``, ``cv2.error``, …), which must not end a run
    that can do without the clip. A missing package is not the clip's fault, so
    ``ImportError`` passes.

    Raises:
        ClipDataError: If anything else was raised.
    """
    try:
        yield
    except (ClipDataError, ImportError):
        raise
    except Exception as error:
        problem = f'cannot be read ({type(error).__name__}: {error})'
        raise ClipDataError.at(where, problem, REPLACE_CLIP) from error


def reports_clip_errors(
    open_video: Callable[[Any, str], Video],
) -> Callable[[Any, str], Video]:
    """Decorate ``open_video`` of a dataset, see :func:`clip_errors`.

    Returns:
        The same function, which raises no error but :class:`ClipDataError`.
    """

    @wraps(open_video)
    def reporting(dataset: Any, name: str) -> Video:
        with clip_errors(f'{dataset.data_root or "."}: clip {name}'):
            return open_video(dataset, name)

    return reporting


RAISE_LIMIT = 'if the file is right, raise {} in the limits of the dataset'
REPLACE_FILE = 'replace the file or put the clip on the exclude list'
COMPLETE_DATA = (
    'complete the data, or take the clip off the list of the split or put it on the '
    'exclude list'
)


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
        """Read the limits of a config.

        Args:
            settings: Values by name; None for those above.

        Raises:
            ValueError: If a name is unknown or a value not positive.
        """
        settings = dict(settings or {})
        unknown = sorted(set(settings) - set(cls.__dataclass_fields__))
        if unknown or any(value < 1 for value in settings.values()):
            msg = (
                f'limits {settings}: give positive numbers for '
                f'{", ".join(cls.__dataclass_fields__)}'
            )
            raise ValueError(msg)
        return cls(**settings)

    def check_pixels(self, where: Path | str, height: int, width: int) -> None:
        """Refuse an image or a mask that is too large.

        Raises:
            ClipDataError: If it is empty or has more than ``max_pixels``.
        """
        if height < 1 or width < 1:
            problem = f'claims {height} x {width} pixels'
            raise ClipDataError.at(where, problem, REPLACE_FILE)
        if height * width > self.max_pixels:
            problem = (
                f'claims {height} x {width} pixels, more than max_pixels='
                f'{self.max_pixels}'
            )
            raise ClipDataError.at(where, problem, RAISE_LIMIT.format('max_pixels'))

    def check_masks(
        self, where: Path | str, num_objects: int, size: tuple[int, int]
    ) -> None:
        """Refuse to decode more masks than fit into memory.

        Raises:
            ClipDataError: If they need more than ``max_mask_bytes``.
        """
        needed = num_objects * size[0] * size[1]
        if needed > self.max_mask_bytes:
            problem = (
                f'{num_objects} masks of {size[0]} x {size[1]} need {needed} bytes, '
                f'more than max_mask_bytes={self.max_mask_bytes}'
            )
            raise ClipDataError.at(where, problem, RAISE_LIMIT.format('max_mask_bytes'))


DEFAULT_LIMITS = ReadLimits()


def read_bytes(path: Path, limits: ReadLimits = DEFAULT_LIMITS) -> bytes:
    """Read a whole file.

    Args:
        limits: Its ``max_file_size`` counts.

    Raises:
        ClipDataError: If the file is missing, too large, or no regular file (a pipe
            would be waited for).
    """
    check_file(path, limits.max_file_size)
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error


def check_file(path: Path, max_file_size: int | None = None) -> os.stat_result:
    """Look at a file without opening it.

    Args:
        max_file_size: Bytes that it may have; None for any number.

    Raises:
        ClipDataError: If the file is missing, too large, or no regular file.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ClipDataError.at(path, 'is missing', COMPLETE_DATA) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        problem = f'cannot be read ({error})'
        raise ClipDataError.at(path, problem, REPLACE_FILE) from error
    if not stat.S_ISREG(status.st_mode):
        raise ClipDataError.at(path, 'is no regular file', REPLACE_FILE)
    if max_file_size is not None and status.st_size > max_file_size:
        problem = f'has {status.st_size} bytes, more than max_file_size={max_file_size}'
        raise ClipDataError.at(path, problem, RAISE_LIMIT.format('max_file_size'))
    return status
