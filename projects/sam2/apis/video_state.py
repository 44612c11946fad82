"""What a video predictor knows of one video, and what it shows of a frame."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from projects.sam2.apis.embedding_cache import EmbeddingCache
from projects.sam2.apis.frame_readers import FrameReader
from projects.sam2.apis.memory_archive import ArchivedMemoryStore, ArchiveSpace
from projects.sam2.models.frame_tracking import FrameTask
from projects.sam2.structures import DecoderStep, FramePrompt, PointPrompt

__all__ = [
    'PendingAnswer',
    'TrackedObject',
    'VideoFrameResult',
    'VideoOptions',
    'VideoState',
]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """How videos are prompted, tracked and shown.

    Attributes:
        fill_hole_area: Holes of up to so many pixels of the stride-4 mask are filled.
        non_overlap_masks: Show each pixel as part of at most one object.
        clear_around_prompts: Forget what was tracked near a prompted frame.
        corrections_condition: A tracked frame that is corrected conditions the rest
            of the video, too.
        memory_dtype: Spatial memories are kept in this type.
        max_batch_objects: Objects tracked in one batch.
        num_cached_embeddings: Frames whose image embeddings are kept.
    """

    fill_hole_area: float = 0.0
    non_overlap_masks: bool = False
    clear_around_prompts: bool = False
    corrections_condition: bool = False
    memory_dtype: torch.dtype = torch.bfloat16
    max_batch_objects: int = 16
    num_cached_embeddings: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFrameResult:
    """Masks of all objects on one frame.

    It unpacks and is indexed as the triple that users of SAM 2 know:
    ``frame_idx, obj_ids, mask_logits = result``.

    Attributes:
        frame_index: Position in the video.
        object_ids: In the order in which the objects were added.
        mask_logits: (O, 1, height, width), at the size of the video.
        object_score_logits: Is the object in the frame?, (O,); NaN where an object
            has no answer on this frame.
        ious: Estimated IoU of the masks, (O,); NaN likewise.
    """

    frame_index: int
    object_ids: list[int]
    mask_logits: Tensor
    object_score_logits: Tensor
    ious: Tensor

    def __iter__(self) -> Iterator[int | list[int] | Tensor]:
        """Frame, ids and masks."""
        return iter((self.frame_index, self.object_ids, self.mask_logits))

    def __getitem__(self, index: int) -> int | list[int] | Tensor:
        """One of the three."""
        return tuple(self)[index]

    def __len__(self) -> int:
        """Of the triple."""
        return 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAnswer:
    """The answer to a prompt, before it is remembered.

    Attributes:
        step: What was decoded, of one object.
        task: How.
        conditioning: The frame will condition the rest of the video.
    """

    step: DecoderStep
    task: FrameTask
    conditioning: bool


@dataclass(slots=True, kw_only=True)
class TrackedObject:
    """One object of a video.

    Attributes:
        object_id: As the user calls it.
        store: Its memories.
        prompts: All that was said about it, by frame.
        pending: Answers that are not remembered yet, by frame.
        tracked_in_reverse: Frames that it was tracked on, and whether backwards.
    """

    object_id: int
    store: ArchivedMemoryStore
    prompts: dict[int, FramePrompt] = field(default_factory=dict)
    pending: dict[int, PendingAnswer] = field(default_factory=dict)
    tracked_in_reverse: dict[int, bool] = field(default_factory=dict)

    @property
    def is_prompted(self) -> bool:
        """Some frame conditions the rest of the video, or will."""
        will = any(answer.conditioning for answer in self.pending.values())
        return will or bool(self.store.conditioning)

    def take_back(self, frame_index: int) -> None:
        """Forget what was said on a frame; what was tracked there stays.

        Args:
            frame_index: Position in the video.
        """
        self.prompts.pop(frame_index, None)
        self.pending.pop(frame_index, None)
        memory = self.store.conditioning.get(frame_index)
        if memory is not None:
            self.store.add(frame_index, memory, prompted=False)
            self.tracked_in_reverse.pop(frame_index, None)

    def forget_passed(self, promptable: EmbeddingCache) -> None:
        """Forget how frames were tracked that no prompt can come back to.

        Args:
            promptable: Holds the frames that can still be prompted.
        """
        for frame in [f for f in self.tracked_in_reverse if f not in promptable]:
            del self.tracked_in_reverse[frame]


@dataclass(slots=True, kw_only=True)
class VideoState:
    """A video that is worked on.

    Attributes:
        frames: Reads its frames.
        embeddings: Features of the latest frames.
        num_frames: Length that the time of object pointers is scaled by.
        revisits: Memories that the running pass has left behind are archived.
        archive_space: Where all objects archive them.
        objects: By id, in the order in which they were added.
        cancelled: Set to stop a running propagation.
    """

    frames: FrameReader
    embeddings: EmbeddingCache
    num_frames: int
    revisits: bool = True
    archive_space: ArchiveSpace | None = None
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __getitem__(self, name: str) -> int | list[int] | dict[int, int]:
        """What scripts look up in the state of the released predictor."""
        height, width = self.frames.size
        rows = dict(enumerate(self.objects))  # of the masks that are shown
        known: dict[str, int | list[int] | dict[int, int]] = {
            'num_frames': self.frames.num_frames,
            'video_height': height,
            'video_width': width,
            'obj_ids': list(self.objects),
            'obj_idx_to_id': rows,
            'obj_id_to_idx': {object_id: row for row, object_id in rows.items()},
        }
        if name not in known:
            msg = f'{name!r}; there are {", ".join(known)}'
            raise KeyError(msg)
        return known[name]

    def object(self, object_id: int) -> TrackedObject:
        """Find an object.

        Args:
            object_id: As the user calls it.

        Returns:
            The object.

        Raises:
            ValueError: If there is none of this id.
        """
        if object_id not in self.objects:
            known = ', '.join(map(str, self.objects)) or 'none yet'
            msg = f'There is no object {object_id}; known ids: {known}'
            raise ValueError(msg)
        return self.objects[object_id]

    def after_earlier(
        self, frame_index: int, object_id: int, points: PointPrompt
    ) -> PointPrompt:
        """Add points to those that were given on a frame before.

        Args:
            frame_index: Position in the video.
            object_id: The object, known or new.
            points: The new points.

        Returns:
            All of them, the new ones last.
        """
        one = self.objects.get(object_id)
        prompt = None if one is None else one.prompts.get(frame_index)
        earlier = None if prompt is None else prompt.points
        return points if earlier is None else earlier.followed_by(points)

    def check_frame(self, frame_index: int) -> None:
        """Check that the video has a frame.

        Args:
            frame_index: Position in the video.

        Raises:
            ValueError: If it has not.
        """
        length = self.frames.num_frames
        if not 0 <= frame_index < length:
            msg = f'Frame {frame_index} is not in 0 to {length - 1}, all frames given'
            raise ValueError(msg)
