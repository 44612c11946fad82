"""How much a file may ask for: checked before anything is decoded."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from projects.sam2.datasets.errors import ClipDataError

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

        Returns:
            The limits.

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

        Args:
            where: File, for the error.
            height: As its header says.
            width: Likewise.

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

        Args:
            where: File, for the error.
            num_objects: Masks to be decoded.
            size: Their height and width.

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
        path: A regular file, or a link to one.
        limits: Its ``max_file_size`` counts.

    Returns:
        The content.

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
        path: A regular file, or a link to one.
        max_file_size: Bytes that it may have; None for any number.

    Returns:
        What the system says of it.

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
