"""J and F of a video, computed as its masks come in."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray

from projects.sam2.evaluation.frame_scores import score_masks
from projects.sam2.evaluation.protocol import JFProtocol
from projects.sam2.evaluation.score_tracks import FrameObjects, ScoreTracks
from projects.sam2.structures import (
    FrameMasks,
    FramePrediction,
    VideoRecord,
    VideoResult,
    VideoSource,
)


@TASK_UTILS.register_module()
class JFAccumulator:
    """Scores the masks of a video frame by frame; keeps numbers, no masks.

    What was not predicted counts as empty: an object without a mask, and an
    annotated frame that was never handed on.

    Args:
        protocol: Config of which objects count on which frames, in ``TASK_UTILS``:
            ``JFDavisProtocol`` (default), ``JFAppearanceProtocol`` or
            ``JFSAVProtocol``.
    """

    def __init__(self, *, protocol: Mapping[str, Any] | None = None) -> None:
        self.protocol: JFProtocol = TASK_UTILS.build(
            dict(protocol or {'type': 'JFDavisProtocol'})
        )
        self._tracks = ScoreTracks(self.protocol)
        self._source: VideoSource | None = None
        self._pending: deque[int] = deque()

    def begin(self, record: VideoRecord) -> None:
        """Start a video.

        Args:
            record: The video.
        """
        frames = record.source.annotated_frames()
        self._source = record.source
        self._pending = deque(frames)
        self._tracks.begin(frames)

    def add(self, prediction: FramePrediction) -> None:
        """Score a frame.

        Args:
            prediction: Its masks and its truth; frames come in ascending order.

        Raises:
            ValueError: If the masks are not of the size of the truth, or no video
                was begun.
        """
        self._score_missed(prediction.frame_index)
        if self._pending and self._pending[0] == prediction.frame_index:
            self._pending.popleft()
        if prediction.truth is not None:
            masks = dict(zip(prediction.object_ids, prediction.masks, strict=True))
            self._score(prediction.frame_index, prediction.truth, masks)

    def finish(self, result: VideoResult) -> None:
        """Write the scores of the video.

        Args:
            result: Its field ``scores`` is set, to :class:`VideoScores`.
        """
        self._score_missed(None)
        result.set_field(self._tracks.finish(self._video.name), 'scores')

    @property
    def _video(self) -> VideoSource:
        """The video that was begun."""
        if self._source is None:
            msg = 'JFAccumulator was given a frame before a video; call begin() first'
            raise ValueError(msg)
        return self._source

    def _score_missed(self, before: int | None) -> None:
        """Score annotated frames that were passed over, all of them for None."""
        while self._pending and (before is None or self._pending[0] < before):
            frame_index = self._pending.popleft()
            truth = self._video.read_masks(frame_index)
            if truth is not None:
                self._score(frame_index, truth, None)

    def _score(
        self,
        frame_index: int,
        truth: FrameMasks,
        masks: Mapping[int, NDArray[np.bool_]] | None,
    ) -> None:
        """Score the objects that count on a frame; None where it was passed over."""
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        frame = FrameObjects(
            frame_index=frame_index,
            frame_name=self._video.frame_name(frame_index),
            truth=_shown(true_masks),
            shown=_shown(masks or {}),
            predicted=None if masks is None else masks.keys(),
        )
        counted = self._tracks.choose(frame)
        if not counted:
            return
        masks = masks or {}
        empty = np.zeros(truth.masks.shape[1:], dtype=bool)
        pairs = [(masks.get(i, empty), true_masks.get(i, empty)) for i in counted]
        for mask, _ in pairs:
            if mask.shape != empty.shape:
                msg = (
                    f'{self._video.name}, frame {frame_index}: the predicted mask is '
                    f'{mask.shape}, the ground truth {empty.shape}; predict at the '
                    'size of the file'
                )
                raise ValueError(msg)
        pred, wanted = zip(*pairs, strict=True)
        scores = score_masks(pred, wanted, truth.void)
        self._tracks.add(frame_index, counted, scores)


def _shown(masks: Mapping[int, NDArray[np.bool_]]) -> Sequence[int]:
    """Ids of the masks with any pixel."""
    return [object_id for object_id, mask in masks.items() if mask.any()]
