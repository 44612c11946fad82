"""Clips of videos for training, from the loader's index to the model's batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


class ClipSample(BaseDataElement):
    """One training clip, as the loader returns it.

    Data fields:
        frames: (T, 3, H, W), uint8, RGB.
        masklets: (T, O, H, W), bool.
        void: (T, H, W), bool, pixels to be ignored.
        annotated: (T,), bool, False where a frame has no ground truth.
        object_ids: (O,), int64, ids as in the dataset.

    Meta information:
        video_name: As in the split's list.
        frame_indices: Positions of the frames in the video.
        sample_index: Position of the clip in the dataset.
        seed: Seed of the clip's random clicks.
        original_size: Height and width of the video.
        is_multi_scale: Whether the size of the frames was drawn at random.
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
        """Positions in the clip that are annotated in all clips."""
        annotated = torch.stack([sample.annotated for sample in samples])  # (B, T)
        return frozenset(annotated.all(dim=0).nonzero().flatten().tolist())

    def pin_memory(self) -> 'ClipSample':
        """Copy the tensors to page-locked memory; the data loader calls it."""
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

    Values that the host branches on stay on the host, so that it never waits for a GPU.

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
        """Index into ``frames`` of a frame of each object's clip, (O,), int64."""
        return self.video_of_object * self.num_frames + frame_index


class EpochIndex(int):
    """An index that knows its epoch, so that the same index gives the same clip.

    Dataset wrappers compute with indices: ``ConcatDataset`` subtracts an offset,
    ``RepeatDataset`` takes a remainder. The result keeps the epoch, the seed and the
    index that the sampler drew, so repetitions of a clip differ.

    Args:
        value: The index.
        epoch: Epoch of the sampler.
        seed: Seed of the run.
        position: Index that the sampler drew; by default ``value``.
    """

    epoch: int
    seed: int
    position: int

    def __new__(
        cls, value: int, epoch: int, seed: int = 0, position: int | None = None
    ) -> 'EpochIndex':
        """Create an index; see the class for the arguments."""
        index = super().__new__(cls, value)
        index.epoch = int(epoch)
        index.seed = int(seed)
        index.position = int(value if position is None else position)
        return index

    @classmethod
    def of(cls, index: 'int | tuple[int, int]', epoch: int = 0) -> 'EpochIndex':
        """Convert an :class:`EpochIndex`, a pair ``(epoch, index)`` or a plain int."""
        if isinstance(index, EpochIndex):
            return index
        if isinstance(index, tuple):
            return cls(index[1], index[0])
        return cls(index, epoch)

    def with_value(self, value: int) -> 'EpochIndex':
        """Replace the index; epoch, seed and position stay."""
        return EpochIndex(value, self.epoch, self.seed, self.position)

    def __add__(self, other: int) -> 'EpochIndex':
        """Add an offset."""
        return self.with_value(int(self) + int(other))

    def __radd__(self, other: int) -> 'EpochIndex':
        """Add an offset."""
        return self + other

    def __sub__(self, other: int) -> 'EpochIndex':
        """Subtract an offset."""
        return self.with_value(int(self) - int(other))

    def __mod__(self, other: int) -> 'EpochIndex':
        """Take the remainder."""
        return self.with_value(int(self) % int(other))

    def __getnewargs__(self) -> tuple[Any, ...]:
        """Arguments of ``__new__`` for unpickling."""
        return int(self), self.epoch, self.seed, self.position


@runtime_checkable
class FollowsEpoch(Protocol):
    """A dataset whose items depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch."""


def set_dataset_epoch(dataset: object, epoch: int) -> None:
    """Set the epoch of a dataset, through all wrappers around it.

    Wrappers such as ``ClassBalancedDataset`` need it, since they replace an
    :class:`EpochIndex` by a plain index from their own list.

    Args:
        dataset: A dataset or a wrapper (with ``dataset`` or ``datasets``).
    """
    if isinstance(dataset, FollowsEpoch):
        dataset.set_epoch(epoch)
    inner = getattr(dataset, 'dataset', None)
    for part in getattr(dataset, 'datasets', [] if inner is None else [inner]):
        set_dataset_epoch(part, epoch)
