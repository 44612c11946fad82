"""What is wrong with a clip, and how to mend it."""

from pathlib import Path


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
        return cls(f'{where}: {problem}; {remedy}')


class ClipDrawError(ClipDataError):
    """Random choices left nothing of a clip; others may not."""
