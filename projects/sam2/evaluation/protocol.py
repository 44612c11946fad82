"""Protocols of J&F: which objects count on which annotated frames of a video."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray

from ..structures import VOID_LABEL, FrameMasks
from .jf import FrameScores, Mask, scan_labels, score_masks
from .mosev2 import score_masks_mosev2
from .scores import ObjectScores, PredictionGaps, VideoScores

# Configs of the protocols, by their names on the command line.
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    'davis': {'type': 'JFDavisProtocol'},
    'davis-all-frames': {
        'type': 'JFDavisProtocol',
        'skip_first': False,
        'skip_last': False,
    },
    'appearance': {'type': 'JFAppearanceProtocol'},
    'appearance-all-frames': {'type': 'JFAppearanceProtocol', 'skip_first': False},
    'sav': {'type': 'JFSAVProtocol'},
    'sav-all-frames': {'type': 'JFSAVProtocol', 'skip_ends': False},
}


class FrameMeasure(Protocol):
    """Scores the objects of a frame, such as :func:`score_masks`."""

    def __call__(
        self, pred: Sequence[Mask], truth: Sequence[Mask], void: Mask | None = None
    ) -> FrameScores:
        """Compute J and F of each object."""


# How the masks of a frame are compared, by name.
MEASURES: Mapping[str, FrameMeasure] = {
    'davis': score_masks,
    'mosev2': score_masks_mosev2,
}


class JFProtocol(ABC):
    """Chooses the objects that count, frame by frame."""

    rule = ''  # which objects count, for reports

    def __init__(self) -> None:
        self.begin(())

    def __str__(self) -> str:
        options = ', '.join(
            f'{name}={value}'
            for name, value in vars(self).items()
            if not name.startswith('_')
        )
        return f'{type(self).__name__}({options}): {self.rule}'

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video."""
        self._first_frame = annotated_frames[0] if annotated_frames else -1
        self._last_frame = annotated_frames[-1] if annotated_frames else -1
        self._reported: set[int] = set()

    @abstractmethod
    def objects(
        self, frame_index: int, truth_ids: Collection[int], pred_ids: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects that count on an annotated frame.

        Args:
            truth_ids: Objects with a pixel of ground truth on the frame.
            pred_ids: Objects with a predicted pixel on the frame.
        """

    def reported(self) -> frozenset[int]:
        """Objects of the video that are reported at its end."""
        return frozenset(self._reported)


@TASK_UTILS.register_module()
class JFDavisProtocol(JFProtocol):
    """Protocol of DAVIS 2017 for semi-supervised segmentation.

    The objects of the first annotated frame that shows any count. Their masks are given
    on that frame, so it does not count itself, nor does the last annotated frame.

    Args:
        skip_first: Leave out the frame on which the objects are given.
        skip_last: Leave out the last annotated frame.
    """

    rule = 'objects of the first annotated frame that shows any'

    def __init__(self, *, skip_first: bool = True, skip_last: bool = True) -> None:
        super().__init__()
        self.skip_first = skip_first
        self.skip_last = skip_last

    def objects(
        self, frame_index: int, truth_ids: Collection[int], pred_ids: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects of the first frame that shows any."""
        is_first = not self._reported
        if is_first:
            self._reported.update(truth_ids)
        is_last = frame_index == self._last_frame
        if (is_first and self.skip_first) or (is_last and self.skip_last):
            return ()
        return tuple(sorted(self._reported))


@TASK_UTILS.register_module()
class JFAppearanceProtocol(JFProtocol):
    """Protocol for videos whose objects appear late.

    Each object is prompted on the first annotated frame that shows it, and counts on
    every later annotated frame.

    Args:
        skip_first: Leave out the frame on which an object appears.
        skip_last: Leave out the last annotated frame.
    """

    rule = 'each object from its first annotated frame on'

    def __init__(self, *, skip_first: bool = True, skip_last: bool = False) -> None:
        super().__init__()
        self.skip_first = skip_first
        self.skip_last = skip_last

    def objects(
        self, frame_index: int, truth_ids: Collection[int], pred_ids: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects that have appeared."""
        before = set(self._reported)
        self._reported.update(truth_ids)
        if self.skip_last and frame_index == self._last_frame:
            return ()
        return tuple(sorted(before if self.skip_first else self._reported))


@TASK_UTILS.register_module()
class JFSAVProtocol(JFProtocol):
    """Protocol of the evaluator published with SA-V (Ravi et al., 2024).

    An object counts from the first evaluated frame on which ground truth or prediction
    shows it. Objects that only the prediction shows are not reported.

    Args:
        skip_ends: Leave out the first and the last annotated frame.
    """

    rule = (
        'each object from the first evaluated frame on which ground truth or '
        'prediction shows it'
    )

    def __init__(self, *, skip_ends: bool = True) -> None:
        super().__init__()
        self.skip_ends = skip_ends

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video."""
        super().begin(annotated_frames)
        self._shown: set[int] = set()

    def objects(
        self, frame_index: int, truth_ids: Collection[int], pred_ids: Collection[int]
    ) -> tuple[int, ...]:
        """Choose the objects shown so far, by ground truth or prediction."""
        if self.skip_ends and frame_index in {self._first_frame, self._last_frame}:
            return ()
        self._reported.update(truth_ids)
        self._shown.update(truth_ids, pred_ids)
        return tuple(sorted(self._shown))


class VideoScorer:
    """Collects the scores of a video's objects under a protocol, frame by frame.

    Args:
        protocol: Chooses the objects that count.
        measure: How masks are compared, a key of ``MEASURES``.

    Raises:
        ValueError: If there is no such measure.
    """

    def __init__(self, protocol: JFProtocol, *, measure: str = 'davis') -> None:
        if measure not in MEASURES:
            msg = f'No measure {measure!r}; choose one of {", ".join(MEASURES)}'
            raise ValueError(msg)
        self._protocol = protocol
        self._measure = MEASURES[measure]
        self.begin(())

    def begin(self, annotated_frames: Sequence[int]) -> None:
        """Start a video."""
        self._protocol.begin(annotated_frames)
        # (frame index, J, F, shown) of each object that counts.
        self._scores: dict[int, list[tuple[int, float, float, bool]]] = {}
        self._truth_ids: set[int] = set()  # objects with a pixel of ground truth
        self._pred_ids: set[int] = set()  # objects with a predicted pixel
        self._predicted_ids: set[int] = set()  # with a predicted mask, even empty
        self._missing_frames: list[str] = []

    def add_labels(
        self,
        frame_index: int,
        frame_name: str,
        *,
        truth: NDArray[Any],
        pred: NDArray[Any] | None,
    ) -> None:
        """Score an annotated frame of label maps.

        Args:
            frame_name: For reports.
            truth: (height, width), see :func:`scan_labels`.
            pred: Likewise, None where the frame was not predicted.

        Raises:
            ValueError: If the maps differ in size or have another type.
        """
        scan = scan_labels(np.zeros_like(truth) if pred is None else pred, truth)
        predicted_ids = None if pred is None else scan.pred_ids
        object_ids = self._choose(
            frame_index, frame_name, scan.truth_ids, scan.pred_ids, predicted_ids
        )
        if not object_ids:
            return
        if self._measure is score_masks:
            scores = scan.score(object_ids)  # all objects in one scan
        else:
            void = truth == VOID_LABEL if truth.dtype == np.uint8 else None
            scores = self._measure(
                [scan.pred == object_id for object_id in object_ids],
                [scan.truth == object_id for object_id in object_ids],
                void,
            )
        self._keep(frame_index, object_ids, scores, scan.truth_ids)

    def add_masks(
        self,
        frame_index: int,
        frame_name: str,
        *,
        truth: FrameMasks,
        pred: Mapping[int, Mask] | None,
        by_object: bool = False,
    ) -> None:
        """Score an annotated frame of masks that may overlap.

        Args:
            frame_name: For reports.
            pred: Mask (height, width) of each object, None where the frame was not
                predicted.
            by_object: Report each object that has no mask on this frame.

        Raises:
            ValueError: If the masks differ in size.
        """
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        pred_masks = pred or {}
        truth_ids, pred_ids = _nonempty(true_masks), _nonempty(pred_masks)
        object_ids = self._choose(frame_index, frame_name, truth_ids, pred_ids, pred)
        if pred is not None and by_object:
            missing = [i for i in object_ids if i not in pred]
            self._missing_frames += [f'{frame_name} of {i}' for i in missing]
        empty = np.zeros(truth.masks.shape[1:], np.bool_)
        scores = self._measure(
            [pred_masks.get(i, empty) for i in object_ids],
            [true_masks.get(i, empty) for i in object_ids],
            truth.void,
        )
        self._keep(frame_index, object_ids, scores, truth_ids)

    def _choose(
        self,
        frame_index: int,
        frame_name: str,
        truth_ids: Collection[int],
        pred_ids: Collection[int],
        predicted_ids: Collection[int] | None,
    ) -> tuple[int, ...]:
        """Choose the objects that count on a frame, and note what is missing."""
        object_ids = self._protocol.objects(frame_index, truth_ids, pred_ids)
        self._truth_ids.update(truth_ids)
        self._pred_ids.update(pred_ids)
        if predicted_ids is not None:
            self._predicted_ids.update(predicted_ids)
        elif object_ids:
            self._missing_frames.append(frame_name)
        return object_ids

    def _keep(
        self,
        frame_index: int,
        object_ids: Sequence[int],
        scores: FrameScores,
        truth_ids: Collection[int],
    ) -> None:
        for object_id, j, f in zip(object_ids, scores.j, scores.f, strict=True):
            row = (frame_index, j, f, object_id in truth_ids)
            self._scores.setdefault(object_id, []).append(row)

    def finish(self, video_name: str) -> VideoScores:
        """Return the scores of the video.

        Args:
            video_name: As in the split's list.
        """
        objects = []
        for object_id in sorted(self._scores.keys() & self._protocol.reported()):
            columns = zip(*self._scores[object_id], strict=True)
            frames, frame_j, frame_f, shown = columns
            objects.append(
                ObjectScores(
                    object_id=object_id,
                    frames=frames,
                    frame_j=frame_j,
                    frame_f=frame_f,
                    shown=shown,
                )
            )
        scored_ids = {obj.object_id for obj in objects}
        return VideoScores(
            video_name=video_name,
            objects=tuple(objects),
            gaps=PredictionGaps(
                missing_frames=tuple(self._missing_frames),
                missing_objects=tuple(sorted(scored_ids - self._predicted_ids)),
                extra_objects=tuple(sorted(self._pred_ids - self._truth_ids)),
            ),
            protocol=str(self._protocol),
        )


def _nonempty(masks: Mapping[int, Mask]) -> list[int]:
    """Ids of the masks with any pixel."""
    return [object_id for object_id, mask in masks.items() if mask.any()]
