"""SAMURAI (Yang et al., 2024): masks are chosen by motion, and memories by quality.

::

    MemoryBankSAMURAI.observe          which of three candidates is the mask?
      ├─ predict        where a Kalman filter expects the box of the object
      ├─ box_iou        of that box and the box of each candidate
      └─ update         the filter, with the box of the chosen candidate
    MemoryBankSAMURAI.tracked_frames   the latest frames with a reliable mask

The filter has a constant velocity, and its noise grows with the height of the object.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from mmengine.registry import MODELS
from numpy.typing import NDArray

from ...ops import masks_to_boxes, upsample_logits
from ..memory_bank import Decision, MemoryBank, MemoryQuery, MemoryStore, Observation

Box = tuple[float, float, float, float]  # x and y of the first and of the last pixel
Vector = NDArray[np.float64]

# Standard deviations of position and velocity, over the height of the object.
POSITION_NOISE = 1 / 20
VELOCITY_NOISE = 1 / 160
# Those of the aspect ratio: at first and in each prediction, and of a measurement.
ASPECT_NOISE = 1e-2
ASPECT_VELOCITY_NOISE = 1e-5
MEASURED_ASPECT_NOISE = 1e-1
FIRST_POSITION_NOISE, FIRST_VELOCITY_NOISE = 2 * POSITION_NOISE, 10 * VELOCITY_NOISE
NUM_MEASURED = 4
TRANSITION = np.eye(2 * NUM_MEASURED) + np.eye(2 * NUM_MEASURED, k=NUM_MEASURED)
# A reliable frame is at least so many frames after the first conditioning frame.
FIRST_RELIABLE = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoxMotion:
    """State of the Kalman filter.

    Attributes:
        mean: Centre x and y, width / height, height, and the velocity of each, (8,).
        covariance: (8, 8).
    """

    mean: Vector
    covariance: Vector

    @property
    def box(self) -> Box:
        """The box that the mean describes."""
        x, y, aspect, height = map(float, self.mean[:NUM_MEASURED])
        width = aspect * height
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def start_motion(box: Box) -> BoxMotion:
    """Start the filter with a box at rest."""
    measured = _measure(box)
    noise = _noise(
        measured[3],
        FIRST_POSITION_NOISE,
        ASPECT_NOISE,
        FIRST_VELOCITY_NOISE,
        ASPECT_VELOCITY_NOISE,
    )
    mean = np.concatenate([measured, np.zeros(NUM_MEASURED)])
    return BoxMotion(mean=mean, covariance=np.diag(noise))


def predict(motion: BoxMotion) -> BoxMotion:
    """Predict the state of the next frame."""
    noise = _noise(
        motion.mean[3],
        POSITION_NOISE,
        ASPECT_NOISE,
        VELOCITY_NOISE,
        ASPECT_VELOCITY_NOISE,
    )
    covariance = TRANSITION @ motion.covariance @ TRANSITION.T + np.diag(noise)
    return BoxMotion(mean=TRANSITION @ motion.mean, covariance=covariance)


def update(motion: BoxMotion, box: Box) -> BoxMotion:
    """Correct a predicted state by the box of the frame."""
    mean, covariance = motion.mean, motion.covariance
    position = POSITION_NOISE * mean[3]
    noise = np.array([position, position, MEASURED_ASPECT_NOISE, position]) ** 2
    innovation = covariance[:NUM_MEASURED, :NUM_MEASURED] + np.diag(noise)
    gain = np.linalg.solve(innovation, covariance[:NUM_MEASURED]).T  # (8, 4)
    difference = _measure(box) - mean[:NUM_MEASURED]
    return BoxMotion(
        mean=mean + gain @ difference,
        covariance=covariance - gain @ innovation @ gain.T,
    )


def box_iou(first: Box, second: Box) -> float:
    """IoU of two boxes; 0 if one has no area."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return both / (sum(areas) - both) if both > 0 else 0.0


def _measure(box: Box) -> Vector:
    """Centre x and y, width / height, and height of a box."""
    x1, y1, x2, y2 = box
    height = y2 - y1 or 1.0  # a box of one row
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / height, height])


def _noise(
    height: float,
    position: float,
    aspect: float,
    velocity: float,
    aspect_velocity: float,
) -> Vector:
    """Variance of each number of the state."""
    p, v = position * height, velocity * height
    return np.array([p, p, aspect, p, v, v, aspect_velocity, v]) ** 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SAMURAINote:
    """What is remembered of a frame.

    Attributes:
        iou: Estimated IoU of the mask.
        object_score: Object score logit.
        motion_score: IoU of the mask's box with the predicted one; None while the
            filter does not choose yet.
        stable_frames: Number of frames for which the filter has followed good masks.
        motion: State of the filter; None before the first ambiguous frame.
    """

    iou: float
    object_score: float
    motion_score: float | None = None
    stable_frames: int = 0
    motion: BoxMotion | None = None


@MODELS.register_module()
class MemoryBankSAMURAI(MemoryBank):
    """The memory of SAMURAI: a motion filter chooses masks, and quality memories.

    Of three candidates, the mask is the one whose estimated IoU and whose overlap with
    the box that a Kalman filter predicts are best, once the filter has followed good
    masks for some frames. Then the ``num_frames - 1`` latest frames with a good IoU,
    object score and overlap are attended to, however old they are, and the adjacent
    frame. A temporal embedding belongs to a rank, not to a distance in time.

    The released code tracks one object forwards from the first frame; here each object
    has its own filter, which runs along the pass. A prompt starts the filter anew.

    Args:
        num_frames: As for :class:`MemoryBank`, as are ``max_conditioning_frames``,
            ``max_pointers`` and ``future_pointers``.
        stable_frames_threshold: Number of frames after which the filter chooses.
        stable_ious_threshold: A mask with a lower IoU starts the filter anew.
        min_obj_score_logits: Object score above which an object counts as present.
        kf_score_weight: Weight of the overlap with the predicted box, against that of
            the estimated IoU; 0.15 in the release for Hiera-L, 0.25 for others.
        memory_bank_iou_threshold: Frames with a higher IoU are attended to, ...
        memory_bank_obj_score_threshold: ... and a higher object score, ...
        memory_bank_kf_score_threshold: ... and a higher overlap, if there is one.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        num_frames: int = 7,
        max_conditioning_frames: int | None = None,
        max_pointers: int = 16,
        future_pointers: bool = False,
        stable_frames_threshold: int = 15,
        stable_ious_threshold: float = 0.3,
        min_obj_score_logits: float = -1.0,
        kf_score_weight: float = 0.25,
        memory_bank_iou_threshold: float = 0.5,
        memory_bank_obj_score_threshold: float = 0.0,
        memory_bank_kf_score_threshold: float = 0.0,
    ) -> None:
        super().__init__(
            num_frames=num_frames,
            max_conditioning_frames=max_conditioning_frames,
            max_pointers=max_pointers,
            future_pointers=future_pointers,
        )
        if stable_frames_threshold < 1 or not 0 <= kf_score_weight <= 1:
            msg = (
                f'stable_frames_threshold is {stable_frames_threshold} and '
                f'kf_score_weight {kf_score_weight}; give at least 1 frame, and a '
                f'weight from 0 to 1'
            )
            raise ValueError(msg)
        self.presence_threshold = min_obj_score_logits
        self.stable_frames_threshold = stable_frames_threshold
        self.stable_ious_threshold = stable_ious_threshold
        self.kf_score_weight = kf_score_weight
        self.memory_bank_iou_threshold = memory_bank_iou_threshold
        self.memory_bank_obj_score_threshold = memory_bank_obj_score_threshold
        self.memory_bank_kf_score_threshold = memory_bank_kf_score_threshold

    def observe(self, store: MemoryStore, observation: Observation) -> Decision:
        """Choose the mask by its estimated IoU and its motion."""
        boxes, ious, object_score = _read(observation)
        best = int(np.argmax(ious))
        before = self.previous_note(store, observation.query)
        motion = before.motion if isinstance(before, SAMURAINote) else None
        stable = before.stable_frames if isinstance(before, SAMURAINote) else 0
        motion_score = None
        if observation.is_prompted and len(ious) == 1:  # the prompt is clear
            motion, stable = None, 0
        elif observation.is_prompted or motion is None or stable == 0:
            motion, stable = start_motion(boxes[best]), 1
        else:
            motion = predict(motion)
            if stable < self.stable_frames_threshold:
                is_good = ious[best] > self.stable_ious_threshold
                stable += 1
            else:
                overlaps = [box_iou(motion.box, box) for box in boxes]
                weight = self.kf_score_weight
                best = int(np.argmax(weight * np.array(overlaps) + (1 - weight) * ious))
                motion_score = overlaps[best]
                is_good = ious[best] >= self.stable_ious_threshold
            if is_good:
                motion = update(motion, boxes[best])
            else:
                stable = 0
        note = SAMURAINote(
            iou=float(ious[best]),
            object_score=object_score,
            motion_score=motion_score,
            stable_frames=stable,
            motion=motion,
        )
        return Decision(candidate=best, note=note)

    def tracked_frames(
        self, store: MemoryStore, query: MemoryQuery
    ) -> Iterable[tuple[int, int]]:
        """The latest reliable frames and the adjacent one; see the base class."""
        if not store.notes:  # clips are not observed
            return super().tracked_frames(store, query)
        adjacent = query.frame_index - query.direction
        limit = min(self.num_frames, self.max_pointers) - 1
        frames = list(islice(self._reliable_frames(store, query), limit))
        if adjacent not in frames:
            frames = [adjacent, *frames]
        latest = frames[: self.num_frames - 1]
        return reversed([(rank + 1, frame) for rank, frame in enumerate(latest)])

    def kept_frames(self, store: MemoryStore, query: MemoryQuery) -> Collection[int]:
        """Reliable frames, which may be attended to long after they were tracked."""
        frames = self._reliable_frames(store, query.following)
        return set(islice(frames, self.num_frames - 1))

    def _reliable_frames(self, store: MemoryStore, query: MemoryQuery) -> Iterator[int]:
        """Frames before this one along the pass with a good mask, latest first."""
        attended = self._nearest(tuple(store.conditioning), query.frame_index)
        # Time runs along the pass, so reverse passes count in negative frames.
        now = query.frame_index * query.direction
        start = min(frame * query.direction for frame in store.conditioning)
        for time in sorted((f * query.direction for f in store.notes), reverse=True):
            frame = time * query.direction
            is_early = start < now and time < start + FIRST_RELIABLE
            if time >= now or is_early or frame in attended:
                continue
            if self._is_reliable(store.notes[frame].value):
                yield frame

    def _is_reliable(self, note: object) -> bool:
        return (
            isinstance(note, SAMURAINote)
            and note.iou > self.memory_bank_iou_threshold
            and note.object_score > self.memory_bank_obj_score_threshold
            and (
                note.motion_score is None
                or note.motion_score > self.memory_bank_kf_score_threshold
            )
        )


def _read(observation: Observation) -> tuple[list[Box], Vector, float]:
    """Read the box of each candidate, their estimated IoUs, and the object score.

    All of them wait for the device once. Boxes are in pixels of the model's image, and
    0 for an empty mask.
    """
    step = observation.step
    logits = upsample_logits(step.candidate_logits, observation.frame_size)
    masks = logits > 0  # (1, M, H, W)
    boxes = masks_to_boxes(masks[0][:, None])  # (M, 4)
    boxes = boxes * (boxes[:, 2:3] >= 0)
    ious, scores = step.candidate_ious[0].float(), step.object_score_logits[0].float()
    values = torch.cat([boxes.flatten(), ious, scores]).tolist()
    num_boxes = len(boxes)
    read = [
        (values[i], values[i + 1], values[i + 2], values[i + 3])
        for i in range(0, 4 * num_boxes, 4)
    ]
    return read, np.array(values[4 * num_boxes : -1]), values[-1]
