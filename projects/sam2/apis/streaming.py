"""Tracks objects in frames that come one at a time: a camera, a socket, a loop."""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis.frame_readers import same_size
from projects.sam2.apis.inputs import ImageLike, Size, read_image, read_whole_number
from projects.sam2.apis.video_predictor import SAM2VideoPredictor
from projects.sam2.apis.video_state import VideoFrameResult

__all__ = ['SAM2Stream']


class LatestFrame:
    """The frame that came last; earlier ones are gone."""

    def __init__(self) -> None:
        self.num_frames = 0
        self._latest: NDArray[np.uint8] | None = None

    @property
    def size(self) -> Size:
        """Height and width of the frames.

        Raises:
            RuntimeError: If no frame came yet.
        """
        if self._latest is None:
            msg = 'No frame came yet; call track with the first one, then prompt it'
            raise RuntimeError(msg)
        return self._latest.shape[0], self._latest.shape[1]

    @contextmanager
    def pushed(self, frame: NDArray[np.uint8]) -> Iterator[int]:
        """Take a frame in place of the one before, unless the work on it fails.

        Args:
            frame: (height, width, 3), RGB.

        Yields:
            Its position in the stream.

        Raises:
            ValueError: If it has another size than the one before.
        """
        before = self._latest
        if before is not None:
            same_size(frame, self.size, f'Frame {self.num_frames}')
        self._latest = frame.copy()
        self.num_frames += 1
        try:
            yield self.num_frames - 1
        except BaseException:
            self._latest = before
            self.num_frames -= 1
            raise

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Give the latest frame.

        Args:
            frame_index: Its position.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If another one is asked for.
        """
        if self._latest is None or frame_index != self.num_frames - 1:
            msg = (
                f'Frame {frame_index} has passed; prompt the latest frame, or keep '
                f'more of them with num_cached_embeddings'
            )
            raise ValueError(msg)
        return self._latest


class SAM2Stream:
    """A video without end.

    Prompts go through the predictor's methods with :attr:`state`, on the latest frame
    or one whose embedding is still kept; they count from the next frame on. Masks are
    those of the same video tracked forwards from a file, where it has at least as
    many frames as there are object pointers in the memory (16).

    Args:
        predictor: Its options hold for the stream.
        num_frames: Length of a short video, if it is known: the time of object
            pointers is scaled by it.
    """

    def __init__(
        self, predictor: SAM2VideoPredictor, *, num_frames: int | None = None
    ) -> None:
        self.predictor = predictor
        if num_frames is not None:
            num_frames = read_whole_number(num_frames, name='num_frames', least=1)
        self._latest = LatestFrame()
        self.state = predictor.session.open(
            self._latest,
            num_frames=sys.maxsize if num_frames is None else num_frames,
            revisits=False,
            reaches_back=True,
        )

    def __deepcopy__(self, memo: dict[int, object]) -> 'SAM2Stream':
        """A branch of the stream: each of the two takes frames of its own."""
        other = SAM2Stream(self.predictor)
        with self.state.lock:
            other._latest = copy.copy(self._latest)
            encode = self.predictor.session.encoder(other._latest)
            other.state = self.state.branch(
                self.state.embeddings.branch(encode), frames=other._latest
            )
        memo[id(self)] = other
        return other

    @property
    def frame_index(self) -> int:
        """Position of the latest frame; -1 before the first."""
        return self._latest.num_frames - 1

    def track(self, frame: ImageLike) -> VideoFrameResult:
        """Track all objects on the next frame.

        Args:
            frame: (height, width, 3), uint8, RGB; or a PIL image of mode RGB.

        Returns:
            What is shown on the frame; no mask before the first prompt.

        Raises:
            ValueError: If the frame is not RGB of 8 bits or of another size, or an
                object has no prompt left. After any error the stream is as it was.
        """
        pixels = read_image(frame, name=f'Frame {self._latest.num_frames}')
        with self.state.lock, self._latest.pushed(pixels) as frame_index:
            return self.predictor.session.step(self.state, frame_index)
