"""An index that knows its epoch, so that the same index gives the same clip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray
from torch import Tensor

from .prompts import PointLabel, PointPrompt


@runtime_checkable
class FollowsEpoch(Protocol):
    """A dataset whose items depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch."""


class EpochIndex(int):
    """An ``int`` that carries the epoch and the place from which it was asked for.

    Dataset wrappers compute with indices (``ConcatDataset`` subtracts an offset,
    ``RepeatDataset`` takes a remainder). The result still knows the epoch, and the
    position among all items of the loader: repetitions of one clip differ.

    Args:
        value: The index.
        epoch: Epoch that the sampler was set to.
        seed: Seed of the run.
        position: Index that the sampler drew; by default ``value``.
    """

    epoch: int
    seed: int
    position: int

    def __new__(
        cls, value: int, epoch: int, seed: int = 0, position: int | None = None
    ) -> 'EpochIndex':
        """Make an index; see the class for the arguments."""
        index = super().__new__(cls, value)
        index.epoch = int(epoch)
        index.seed = int(seed)
        index.position = int(value if position is None else position)
        return index

    @classmethod
    def of(cls, index: 'int | tuple[int, int]', epoch: int = 0) -> 'EpochIndex':
        """Read what a dataset was asked for.

        Args:
            index: An :class:`EpochIndex`, a pair ``(epoch, index)`` or a plain int.
        """
        if isinstance(index, EpochIndex):
            return index
        if isinstance(index, tuple):
            return cls(index[1], index[0])
        return cls(index, epoch)

    def moved_to(self, value: int) -> 'EpochIndex':
        """Another index, asked for from the same epoch and position."""
        return EpochIndex(value, self.epoch, self.seed, self.position)

    def __add__(self, other: int) -> 'EpochIndex':
        """Shift up; the epoch stays."""
        return self.moved_to(int(self) + int(other))

    def __radd__(self, other: int) -> 'EpochIndex':
        """Shift up; the epoch stays."""
        return self + other

    def __sub__(self, other: int) -> 'EpochIndex':
        """Shift down; the epoch stays."""
        return self.moved_to(int(self) - int(other))

    def __mod__(self, other: int) -> 'EpochIndex':
        """Wrap around; the epoch stays."""
        return self.moved_to(int(self) % int(other))

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Arguments with which a pickled index is made again."""
        return int(self), self.epoch, self.seed, self.position


def set_dataset_epoch(dataset: object, epoch: int) -> None:
    """Tell a dataset the epoch, through all wrappers around it.

    ``ClassBalancedDataset`` looks indices up in a list of its own, whose entries know
    no epoch; what is inside then takes the epoch that was set.

    Args:
        dataset: A dataset or a wrapper (with ``dataset`` or ``datasets``).
    """
    if isinstance(dataset, FollowsEpoch):
        dataset.set_epoch(epoch)
    inner = getattr(dataset, 'dataset', None)
    for part in getattr(dataset, 'datasets', [] if inner is None else [inner]):
        set_dataset_epoch(part, epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMark:
    """A prompt point as a person gave it.

    Attributes:
        object_id: The object it belongs to.
        x: Column in pixels of the frame's file.
        y: Row in pixels of the frame's file.
        label: Its meaning; a box is two marks, one after the other.
    """

    object_id: int
    x: float
    y: float
    label: PointLabel


def marks_of_points(
    points: PointPrompt,
    object_ids: Sequence[int],
    scale: tuple[float, float] = (1.0, 1.0),
) -> Iterator[PromptMark]:
    """List the points of a prompt.

    Args:
        scale: Pixels of the file for one of ``points``, in x and in y.
    """
    for object_id, coords, labels in zip(
        object_ids, points.coords.tolist(), points.labels.tolist(), strict=True
    ):
        for (x, y), label in zip(coords, labels, strict=True):
            if label != PointLabel.PADDING:
                yield PromptMark(
                    object_id=object_id,
                    x=x * scale[0],
                    y=y * scale[1],
                    label=PointLabel(label),
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMasklets:
    """Predicted masks of one frame.

    Attributes:
        frame_index: Position in the video.
        object_ids: One for each mask.
        encoded: Masks as COCO run-length encoding, at the size of the file.
        prompted_ids: Objects that were prompted on this frame.
        marks: Points and boxes of those prompts; none where a mask was given.
    """

    frame_index: int
    object_ids: tuple[int, ...]
    encoded: tuple[Mapping[str, Any], ...]
    prompted_ids: tuple[int, ...] = ()
    marks: tuple[PromptMark, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is one mask for each id."""
        if len(self.object_ids) != len(self.encoded):
            msg = (
                f'Frame {self.frame_index}: expected one mask for each of '
                f'{len(self.object_ids)} ids, but got {len(self.encoded)}'
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masklets:
    """Predicted masks of frames of one video, ascending by frame."""

    frames: tuple[FrameMasklets, ...]


class ClipSample(BaseDataElement):
    """One training clip, as the loader gives it.

    Data fields (tensors, all of one frame size):
        frames: (T, 3, H, W), uint8, RGB.
        masklets: (T, O, H, W), bool.
        void: (T, H, W), bool, pixels to be ignored.
        annotated: (T,), bool, False where a frame has no ground truth.
        object_ids: (O,), int64, ids as in the dataset.

    Meta information: ``video_name``, ``frame_indices`` (tuple of int, positions in
    the video), ``sample_index``, ``seed`` (int, of the clip's random clicks),
    ``original_size`` (height, width) and ``is_multi_scale`` (bool, whether the size
    of the frames was drawn from several).
    """

    frames: Tensor
    masklets: Tensor
    void: Tensor
    annotated: Tensor
    object_ids: Tensor
    video_name: str
    frame_indices: tuple[int, ...]
    sample_index: int
    seed: int
    original_size: tuple[int, int]
    is_multi_scale: bool

    @staticmethod
    def frames_annotated_in_all(samples: 'Sequence[ClipSample]') -> frozenset[int]:
        """Positions of the frames that every one of some clips has annotated."""
        annotated = torch.stack([sample.annotated for sample in samples])  # (B, T)
        return frozenset(annotated.all(dim=0).nonzero().flatten().tolist())

    def pin_memory(self) -> 'ClipSample':
        """Copy the tensors to page-locked memory; called by the loader."""
        pinned = cast('ClipSample', self.new())
        for name, value in self.items():
            pinned.set_data({name: value.pin_memory()})
        return pinned


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTargets:
    """Ground truth of a batch of clips at the size that the model sees.

    Attributes:
        masks: (T, O, H, W), bool.
        void: (T, O, H, W), bool, pixels to be ignored; None where there are none.
        annotated: (T, O), bool.
    """

    masks: Tensor
    void: Tensor | None
    annotated: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipBatch:
    """A batch of clips on the device, ready for the model.

    What the host decides by is held by the host, so that it need not wait for a GPU.

    Attributes:
        frames: (B * T, 3, H, W), float, normalised, video-major
            (``video * T + frame``).
        num_frames: T.
        targets: Ground truth of all objects, those of the first clip first.
        objects_per_clip: Number of objects of each clip, length B, sum O.
        annotated_frames: Frames that are annotated in all clips.
        seeds: Seeds of the simulated clicks, one per clip.
    """

    frames: Tensor
    num_frames: int
    targets: ClipTargets
    objects_per_clip: tuple[int, ...]
    annotated_frames: frozenset[int]
    seeds: tuple[int, ...]

    @property
    def video_of_object(self) -> Tensor:
        """The clip that each object belongs to, (O,), int64."""
        # Filled on the device: an index list would have to be copied there.
        device = self.frames.device
        return torch.cat(
            [
                torch.full((num_objects,), clip, device=device)
                for clip, num_objects in enumerate(self.objects_per_clip)
            ]
        )

    def frame_of_object(self, frame_index: int) -> Tensor:
        """Where a frame of each object's clip is in ``frames``, (O,), int64."""
        return self.video_of_object * self.num_frames + frame_index


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMasks:
    """Ground truth of one frame at the size of its file.

    Attributes:
        object_ids: Ids of the objects, one for each mask, as in the file.
        masks: (O, height, width), bool; may overlap; may be empty of pixels.
        void: (height, width), bool, pixels to be ignored by loss and metric, or
            None where there are none.
    """

    object_ids: tuple[int, ...]
    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Check that there is one mask for each id."""
        if self.masks.ndim != 3 or len(self.object_ids) != len(self.masks):
            msg = (
                f'Expected one mask (height, width) for each of '
                f'{len(self.object_ids)} ids, but got masks {self.masks.shape}'
            )
            raise ValueError(msg)

    def select(self, object_ids: Sequence[int]) -> 'FrameMasks':
        """The masks of some of the objects."""
        rows = [self.object_ids.index(object_id) for object_id in object_ids]
        return replace(self, object_ids=tuple(object_ids), masks=self.masks[rows])


@runtime_checkable
class VideoSource(Protocol):
    """Reads frames and masks of one video; small, picklable, thread-safe."""

    @property
    def name(self) -> str:
        """Name of the video, as in the split's list."""

    @property
    def num_frames(self) -> int:
        """Frames of the video."""

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file, for written masks."""

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame: (height, width, 3), RGB."""

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode the ground truth of a frame; None where it is not annotated."""

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth, ascending."""


@runtime_checkable
class ObjectSource(Protocol):
    """A video source that decodes the masks of chosen objects alone."""

    def seen_objects(self, frame_index: int) -> tuple[int, ...] | None:
        """Objects seen on a frame; None where only decoding all masks tells."""

    def read_objects(
        self, frame_index: int, object_ids: tuple[int, ...]
    ) -> FrameMasks | None:
        """Decode a mask for each of some objects; None where it is not annotated."""


class VideoRecord(BaseDataElement):
    """One validation item: a video to be read on demand.

    Attributes (meta information):
        source (VideoSource): Reads the frames and the masks.
        sample_index (int): Position in the dataset, by which doubles are dropped.
    """

    source: VideoSource
    sample_index: int
