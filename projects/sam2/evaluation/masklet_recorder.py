"""Keeps the predicted masks of a few videos for pictures."""

from collections.abc import Iterator

from mmengine.registry import TASK_UTILS

from projects.sam2.ops import encode_masks
from projects.sam2.structures import (
    FrameMasklets,
    FramePrediction,
    Masklets,
    PromptMark,
    VideoRecord,
    VideoResult,
    marks_of_points,
)

DECODER_STRIDE = 4


@TASK_UTILS.register_module()
class MaskletRecorder:
    """Keeps masks, run-length encoded, of the first videos of a dataset.

    Videos are chosen by their position in the dataset, so that the same ones are
    kept whatever the number of processes. Of a long video evenly spaced frames are
    kept, and those on which an object is prompted or, where few are, annotated.

    Args:
        max_videos: Videos to keep.
        max_frames: Evenly spaced frames to keep of each.
    """

    def __init__(self, *, max_videos: int = 4, max_frames: int = 120) -> None:
        if max_videos < 0 or max_frames < 1:
            msg = (
                f'Expected max_videos of at least 0 and max_frames of at least 1, but '
                f'got {max_videos} and {max_frames}'
            )
            raise ValueError(msg)
        self.max_videos = max_videos
        self.max_frames = max_frames
        self._chosen = False
        self._stride = 1
        self._sparse = False
        self._frames: list[FrameMasklets] = []

    def begin(self, record: VideoRecord) -> None:
        """Start a video.

        Args:
            record: The video.
        """
        self._chosen = record.sample_index < self.max_videos
        self._stride = -(-record.source.num_frames // self.max_frames)
        self._sparse = len(record.source.annotated_frames()) <= self.max_frames
        self._frames = []

    def add(self, prediction: FramePrediction) -> None:
        """Keep the masks of a frame.

        Args:
            prediction: Its masks.
        """
        annotated = self._sparse and prediction.truth is not None
        on_stride = prediction.frame_index % self._stride == 0
        if not self._chosen or not (on_stride or annotated or prediction.prompted_ids):
            return
        marks = prediction.marks
        if prediction.prompted_ids and not marks:
            marks = tuple(_prompt_marks(prediction))
        encoded = encode_masks(prediction.masks) if prediction.object_ids else []
        self._frames.append(
            FrameMasklets(
                frame_index=prediction.frame_index,
                object_ids=prediction.object_ids,
                encoded=tuple(encoded),
                prompted_ids=prediction.prompted_ids,
                marks=marks,
            )
        )

    def finish(self, result: VideoResult) -> None:
        """Hand over what was kept of the video.

        Args:
            result: Its field ``masklets`` is set, to :class:`Masklets`; left unset
                where the video was not chosen.
        """
        if self._chosen:
            result.set_field(Masklets(frames=tuple(self._frames)), 'masklets')
        self._frames = []


def _prompt_marks(prediction: FramePrediction) -> Iterator[PromptMark]:
    """Points that led to the masks of a frame, in pixels of its file."""
    first = 0
    for output in prediction.outputs:
        logits = output.final.mask_logits  # (O, 1, H4, W4)
        ids = prediction.object_ids[first : first + len(logits)]
        first += len(logits)
        height, width = prediction.masks.shape[1:]
        scale = (
            width / (DECODER_STRIDE * logits.shape[3]),
            height / (DECODER_STRIDE * logits.shape[2]),
        )
        points = output.final.points
        if points is not None and set(ids) & set(prediction.prompted_ids):
            yield from marks_of_points(points, ids, scale)
