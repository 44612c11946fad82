"""Semi-supervised segmentation of a video: masks of some frames in, of all out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from projects.sam2.apis.frame_readers import same_size
from projects.sam2.apis.read_ahead import ReadAheadReader
from projects.sam2.apis.video_predictor import SAM2VideoPredictor
from projects.sam2.apis.video_state import VideoState
from projects.sam2.datasets.object_masks import (
    read_objects,
    visible_objects,
    void_note,
)
from projects.sam2.structures import FrameMasks, VideoSource

__all__ = ['GivenMasks', 'VideoSegmenter']

Size = tuple[int, int]


class GivenMasks(Enum):
    """Which of a video's masks are prompts."""

    FIRST_FRAME = 'first-frame'  # of the first frame that shows an object
    FIRST_SEEN = 'first-seen'  # the first one of each object
    ALL = 'all'


class SourceReader:
    """Frames of a data set's video, as a predictor reads them.

    Args:
        source: The video; its first frame is decoded, for the size.
    """

    def __init__(self, source: VideoSource) -> None:
        self._source = source
        first = source.read_frame(0)
        self.size: Size = (first.shape[0], first.shape[1])

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self._source.num_frames

    def read(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame.

        Args:
            frame_index: Position in the video.

        Returns:
            (height, width, 3), RGB.

        Raises:
            ValueError: If it is of another size than the first.
        """
        name = f'{self._source.name}, frame {frame_index},'
        return same_size(self._source.read_frame(frame_index), self.size, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSegmenter:
    """Prompts a predictor with the masks of a video and tracks them.

    Attributes:
        predictor: Its options hold.
        given: Which masks are prompts.
        score_threshold: Masks are where logits exceed it.
        beat: Called after each prompt and each frame: says that work goes on.
    """

    predictor: SAM2VideoPredictor
    given: GivenMasks
    score_threshold: float
    beat: Callable[[], None]

    def segment(self, source: VideoSource) -> Iterator[FrameMasks]:
        """Segment a video.

        An object is tracked from the frame of its first mask on, as if it were alone,
        and all those of one batch at once.

        Args:
            source: The video, with the masks that are given.

        Yields:
            For each frame the objects known by then and their masks, of the size of
            the video; none before the first prompt.

        Raises:
            ValueError: If no mask shows an object.
        """
        frames = SourceReader(source)
        # Nobody comes back to a frame: what is passed need not be kept on disk.
        state = self.predictor.session.open(ReadAheadReader(frames), revisits=False)
        annotated = set(source.annotated_frames())
        tracked = None
        for frame in range(source.num_frames):
            if frame in annotated and self._takes_more(state):
                self._prompt(state, source, frame)
            if not state.objects:
                yield FrameMasks(object_ids=(), masks=np.zeros((0, *frames.size), bool))
                continue
            if tracked is None:
                tracked = self.predictor.propagate_in_video(state, frame)
            shown = next(tracked)
            masks = shown.mask_logits[:, 0] > self.score_threshold
            yield FrameMasks(
                object_ids=tuple(shown.object_ids), masks=masks.cpu().numpy()
            )
            self.beat()
        if not state.objects:
            msg = (
                f'{source.name}: no mask shows an object{void_note(source)}; give '
                f'a mask with objects, as labels from 1 to 254'
            )
            raise ValueError(msg)

    def _takes_more(self, state: VideoState) -> bool:
        """Are objects looked for on later frames, too?"""
        return not state.objects or self.given is not GivenMasks.FIRST_FRAME

    def _prompt(self, state: VideoState, source: VideoSource, frame: int) -> None:
        """Prompt the objects that a frame shows first."""
        masks = source.read_masks(frame)
        new = [i for i in visible_objects(masks) if i not in state.objects]
        if masks is None or not new:
            return
        self._add(state, frame, masks, tuple(new))
        if self.given is not GivenMasks.ALL:
            return
        for later in source.annotated_frames():
            if later > frame:
                more = read_objects(source, later, tuple(new))
                self._add(state, later, more, visible_objects(more))

    def _add(
        self,
        state: VideoState,
        frame: int,
        masks: FrameMasks | None,
        object_ids: tuple[int, ...],
    ) -> None:
        """Prompt some objects with their masks on a frame, and remember them."""
        if masks is None or not object_ids:
            return
        for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
            if object_id in object_ids:
                self.predictor.add_new_mask(state, frame, object_id, mask)
                self.beat()
        # While the features of the frame are at hand.
        self.predictor.propagate_in_video_preflight(state)
