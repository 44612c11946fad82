"""What is wrong with a clip, and how to mend it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

        Args:
            where: File or clip.
            problem: What was found.
            remedy: What the user can do.

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

    Args:
        text: Any text.

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

    Args:
        where: File or clip.

    Yields:
        Nothing.

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

    Args:
        open_video: Opens the clip of a name.

    Returns:
        The same function, which raises no error but :class:`ClipDataError`.
    """

    @wraps(open_video)
    def reporting(dataset: Any, name: str) -> Video:  # noqa: ANN401  any dataset
        with clip_errors(f'{dataset.data_root or "."}: clip {name}'):
            return open_video(dataset, name)

    return reporting
