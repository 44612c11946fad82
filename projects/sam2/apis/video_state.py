"""Keeps the image embeddings of the frames that were looked at last."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ..models.data_preprocessor import ClipDataPreprocessor
from ..models.layers import sine_encoding_2d
from ..structures import ImageFeatures

if TYPE_CHECKING:
    from .frame_readers import FrameReader
    from .memory_archive import AnsweredMemory

import threading
from dataclasses import dataclass, field, fields

from ..models.tracking.frame import FrameTask
from ..structures import DecoderStep, FramePrompt, PointPrompt
from .frame_readers import FrameReader
from .memory_archive import (
    AnsweredMemory,
    ArchivedMemoryStore,
    ArchiveSpace,
    FrameAnswer,
    MemoryRestorer,
    StagedStore,
)


class EmbeddingCache:
    """The embeddings of a few frames; the one not used for longest makes room.

    Args:
        encode: Gives the features of a frame by its position in the video.
        capacity: Frames that are kept.

    Attributes:
        capacity: May be changed; it holds from the next frame on.

    Raises:
        ValueError: If the capacity is below one.
    """

    def __init__(
        self, encode: Callable[[int], ImageFeatures], *, capacity: int
    ) -> None:
        if capacity < 1:
            msg = f'num_cached_embeddings is {capacity}; keep at least one'
            raise ValueError(msg)
        self._encode = encode
        self.capacity = capacity
        self._kept: OrderedDict[int, ImageFeatures] = OrderedDict()

    def __contains__(self, frame_index: int) -> bool:
        """Is the embedding of a frame kept?"""
        return frame_index in self._kept

    def get(self, frame_index: int) -> ImageFeatures:
        """Features of a frame, encoded where they are not kept."""
        if frame_index not in self._kept:
            self._kept[frame_index] = self._encode(frame_index)
        self._kept.move_to_end(frame_index)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return self._kept[frame_index]

    def branch(
        self, encode: Callable[[int], ImageFeatures] | None = None
    ) -> 'EmbeddingCache':
        """Copy the cache; changes of the copy do not affect the original.

        Args:
            encode: Gives the features of a frame; by default as before.
        """
        other = EmbeddingCache(encode or self._encode, capacity=self.capacity)
        other._kept = self._kept.copy()
        return other


Key = TypeVar('Key')
READ_ONLY = (
    'The state cannot be written to ({}); prompt and track through the predictor, '
    'which keeps no more than it needs on the device, and give frames that come one at '
    'a time to SAM2Stream'
)
WRITES = {'clear', 'pop', 'popitem', 'setdefault', 'update'}  # of a dict


class ReleasedImages:
    """Frames as the model sees them, prepared when they are looked at.

    Args:
        frames: Reads the frames.
        preprocessor: Prepares them.
    """

    def __init__(
        self, frames: 'FrameReader', preprocessor: ClipDataPreprocessor
    ) -> None:
        self._frames, self._preprocessor = frames, preprocessor

    @property
    def shape(self) -> torch.Size:
        """(T, 3, H, W)."""
        return torch.Size([len(self), 3, *self._preprocessor.image_size])

    def __len__(self) -> int:
        """Frames of the video."""
        return self._frames.num_frames

    def __getitem__(self, index: int | slice) -> Tensor:
        """A frame, (3, H, W); or some of them, (T, 3, H, W)."""
        if isinstance(index, slice):
            return torch.stack([self[i] for i in range(*index.indices(len(self)))])
        if not -len(self) <= index < len(self):
            msg = f'Frame {index} is not in 0 to {len(self) - 1}'
            raise IndexError(msg)
        return self._preprocessor.frame(self._frames.read(index % len(self)))[0]


class ReadOnly(Mapping[Key, Any]):
    """A mapping that refuses to be changed: it is a view, and changes would be lost."""

    __slots__ = ()

    def __setitem__(self, key: object, value: object) -> None:
        """Refuse to write, and say what to do."""
        del value
        raise TypeError(READ_ONLY.format(repr(key)))

    def __delitem__(self, key: object) -> None:
        """Refuse to delete, and say what to do."""
        raise TypeError(READ_ONLY.format(repr(key)))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Say what to do in place of the calls that change a dict."""
            if name in WRITES:
                raise AttributeError(READ_ONLY.format(f'.{name}'))
            msg = f'{type(self).__name__!r} object has no attribute {name!r}'
            raise AttributeError(msg)


class Entries(ReadOnly[Any]):
    """What a state has under one of its keys.

    Args:
        entries: Mappings among the values are made read-only as well.
    """

    def __init__(self, entries: Mapping[Any, Any]) -> None:
        self._entries = {key: _read_only(value) for key, value in entries.items()}

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the keys."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._entries)

    def __getitem__(self, key: object) -> Any:
        """Look up an entry."""
        return self._entries[key]

    def __repr__(self) -> str:
        """Show it as a dict."""
        return repr(self._entries)


def _read_only(value: Any) -> Any:
    """A dict as a read-only mapping; all else as it is."""
    return Entries(value) if isinstance(value, dict) else value


class FrameOutputs(ReadOnly[int]):
    """Outputs of an object by frame, read when they are looked up.

    Args:
        frames: Frames that have an output.
        read: Returns the memory of a frame.
    """

    def __init__(
        self,
        frames: Sequence[int],
        read: 'Callable[[int], AnsweredMemory | None]',
    ) -> None:
        self._frames, self._read = dict.fromkeys(frames), read

    def __iter__(self) -> Iterator[int]:
        """Iterate over the frames."""
        return iter(self._frames)

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._frames)

    def __getitem__(self, frame_index: int) -> dict[str, Any]:
        """Mask, object score, pointer and memory of a frame."""
        memory = self._read(frame_index) if frame_index in self._frames else None
        if memory is None:
            raise KeyError(frame_index)
        spatial = memory.spatial
        size = (spatial.shape[2], spatial.shape[3])
        position = sine_encoding_2d(
            channels=spatial.shape[1], size=size, device=spatial.device
        )
        return {
            'maskmem_features': spatial,
            'maskmem_pos_enc': [position],
            'pred_masks': memory.mask_logits,
            'obj_ptr': memory.object_pointer,
            'object_score_logits': memory.object_score_logits,
        }


class ReleasedState(ReadOnly[str]):
    """Read access by the released keys: ``state['num_frames']``, ``state.get(…)``.

    Writing is refused, since it would have no effect.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        frames: FrameReader
        preprocessor: ClipDataPreprocessor
        objects: 'dict[int, TrackedObject]'

    def __getitem__(self, name: str) -> Any:
        """Look up what the released state has under a key."""
        if name not in _ENTRIES:
            msg = f'{name!r}; the keys are {", ".join(_ENTRIES)}'
            raise KeyError(msg)
        entry = _ENTRIES[name](self)
        return Entries(entry) if name.endswith('_per_obj') else entry

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return iter(_ENTRIES)

    def __len__(self) -> int:
        """Count the keys."""
        return len(_ENTRIES)


def _rows(state: ReleasedState) -> dict[int, 'TrackedObject']:
    """Objects by their row in the masks of a result."""
    return dict(enumerate(state.objects.values()))


def _points(obj: 'TrackedObject') -> dict[int, dict[str, Tensor]]:
    """Points of an object by frame, in pixels of the image that the model sees."""
    return {
        frame: {
            'point_coords': prompt.points.coords,
            'point_labels': prompt.points.labels,
        }
        for frame, prompt in obj.prompts.items()
        if prompt.points is not None
    }


def _masks(obj: 'TrackedObject') -> dict[int, Tensor]:
    """Mask prompts of an object by frame."""
    return {
        frame: prompt.mask
        for frame, prompt in obj.prompts.items()
        if prompt.mask is not None
    }


def _outputs(obj: 'TrackedObject') -> dict[str, FrameOutputs]:
    """Memories of an object."""
    store = obj.store
    archive = store.archive
    conditioning = store.conditioning
    tracked = sorted(
        {*store.tracked}
        | {f for f in obj.tracked_in_reverse if archive is not None and f in archive}
    )
    unprompted = [frame for frame in tracked if frame not in conditioning]
    return {
        'cond_frame_outputs': FrameOutputs(list(conditioning), conditioning.get),  # type: ignore[arg-type]  # all with answers
        'non_cond_frame_outputs': FrameOutputs(unprompted, store.tracked_memory),  # type: ignore[arg-type]
    }


def _pending(obj: 'TrackedObject') -> dict[str, dict[int, dict[str, Any]]]:
    """Answers that are not encoded into memories yet."""
    outputs: dict[str, dict[int, dict[str, Any]]] = {
        'cond_frame_outputs': {},
        'non_cond_frame_outputs': {},
    }
    for frame, answer in obj.pending.items():
        kind = 'cond_frame_outputs' if answer.conditioning else 'non_cond_frame_outputs'
        outputs[kind][frame] = {
            'pred_masks': answer.step.mask_logits,
            'obj_ptr': answer.step.object_pointer,
            'object_score_logits': answer.step.object_score_logits,
        }
    return outputs


_ENTRIES: dict[str, Callable[[ReleasedState], Any]] = {
    'images': lambda state: ReleasedImages(state.frames, state.preprocessor),
    'num_frames': lambda state: state.frames.num_frames,
    'video_height': lambda state: state.frames.size[0],
    'video_width': lambda state: state.frames.size[1],
    'device': lambda state: state.preprocessor.mean.device,
    'storage_device': lambda state: state.preprocessor.mean.device,
    'obj_ids': lambda state: list(state.objects),
    'obj_id_to_idx': lambda state: {key: i for i, key in enumerate(state.objects)},
    'obj_idx_to_id': lambda state: dict(enumerate(state.objects)),
    'point_inputs_per_obj': lambda state: {
        row: _points(obj) for row, obj in _rows(state).items()
    },
    'mask_inputs_per_obj': lambda state: {
        row: _masks(obj) for row, obj in _rows(state).items()
    },
    'output_dict_per_obj': lambda state: {
        row: _outputs(obj) for row, obj in _rows(state).items()
    },
    'temp_output_dict_per_obj': lambda state: {
        row: _pending(obj) for row, obj in _rows(state).items()
    },
    'frames_tracked_per_obj': lambda state: {
        row: {frame: {'reverse': r} for frame, r in obj.tracked_in_reverse.items()}
        for row, obj in _rows(state).items()
    },
    'tracking_has_started': lambda state: any(
        obj.tracked_in_reverse for obj in state.objects.values()
    ),
}


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
        max_archive_gb: Limit in gigabytes of what a video leaves behind.
        archive_spatial_memories: Leave spatial memories behind, too, rather than
            encode them again.
    """

    fill_hole_area: float = 0.0
    non_overlap_masks: bool = False
    clear_around_prompts: bool = False
    corrections_condition: bool = False
    memory_dtype: torch.dtype = torch.bfloat16
    max_batch_objects: int = 16
    num_cached_embeddings: int = 8
    max_archive_gb: float = 16.0
    archive_spatial_memories: bool = False


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
        """Index the triple."""
        return tuple(self)[index]

    def __len__(self) -> int:
        """Length of the triple."""
        return 3


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedFrame(VideoFrameResult):
    """Masks of the objects that are left, on a frame where a removed one was prompted.

    It unpacks and is indexed as the pair that users of SAM 2 know:
    ``frame_idx, mask_logits = result``.
    """

    @classmethod
    def of(cls, result: VideoFrameResult) -> 'UpdatedFrame':
        """Convert a result that unpacks as a triple."""
        return cls(**{f.name: getattr(result, f.name) for f in fields(result)})

    def __iter__(self) -> Iterator[int | list[int] | Tensor]:
        """Frame and masks."""
        return iter((self.frame_index, self.mask_logits))

    def __len__(self) -> int:
        """Length of the pair."""
        return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAnswer:
    """The answer to a prompt, before it is remembered.

    Attributes:
        step: What was decoded, of one object.
        task: The task that was decoded.
        conditioning: The frame will condition the rest of the video.
        features: Of the frame, where it may not be read again; else None.
    """

    step: DecoderStep
    task: FrameTask
    conditioning: bool
    features: ImageFeatures | None = None


@dataclass(slots=True, kw_only=True)
class TrackedObject:
    """One object of a video.

    A call works on a draft of the object and adopts it in the end, so that a call that
    fails changes nothing: ``draft = obj.draft()``, then the work, then
    ``obj.adopt(draft)``.

    Attributes:
        object_id: As the user calls it.
        store: Its memories.
        prompts: All that was said about it, by frame.
        pending: Answers that are not remembered yet, by frame.
        tracked_in_reverse: Frames that it was tracked on, and whether backwards.
        corrections: Frames whose tracked memory is the answer to a prompt.
    """

    object_id: int
    store: ArchivedMemoryStore
    prompts: dict[int, FramePrompt] = field(default_factory=dict)
    pending: dict[int, PendingAnswer] = field(default_factory=dict)
    tracked_in_reverse: dict[int, bool] = field(default_factory=dict)
    corrections: set[int] = field(default_factory=set)

    @property
    def conditioning_frames(self) -> set[int]:
        """Frames that condition the rest of the video, or will."""
        will = {frame for frame, answer in self.pending.items() if answer.conditioning}
        return will | set(self.store.conditioning)

    @property
    def is_prompted(self) -> bool:
        """Some frame conditions the rest of the video, or will."""
        return bool(self.conditioning_frames)

    def answer(self, frame_index: int) -> FrameAnswer | None:
        """Look up the latest answer on a frame.

        Returns:
            What is shown, or None where there is no answer.
        """
        pending = self.pending.get(frame_index)
        if pending is None:
            return self.store.answer(frame_index)
        step = pending.step
        return FrameAnswer(
            mask_logits=step.mask_logits,
            object_score_logits=step.object_score_logits,
            ious=step.candidate_ious.amax(dim=1, keepdim=True),
        )

    def remember(
        self, frame_index: int, memory: AnsweredMemory, *, conditioning: bool
    ) -> None:
        """Keep the memory of an answered prompt."""
        self.store.add(frame_index, memory, conditioning=conditioning)
        self.pending.pop(frame_index, None)
        if conditioning:
            self.corrections.discard(frame_index)
        else:
            self.corrections.add(frame_index)

    def track(
        self, frame_index: int, memory: AnsweredMemory | None, *, reverse: bool
    ) -> None:
        """Record that a pass tracked a frame.

        Args:
            memory: What was tracked there; None where the frame conditions the video.
        """
        if memory is not None:
            self.store.add(frame_index, memory, conditioning=False)
            self.corrections.discard(frame_index)
        self.tracked_in_reverse[frame_index] = reverse

    def erase(self, frame_index: int) -> None:
        """Forget what was tracked on a frame."""
        self.store.erase(frame_index)
        self.corrections.discard(frame_index)

    def take_back(self, frame_index: int) -> None:
        """Clear the prompts of a frame; its mask stays as a tracked one."""
        self.prompts.pop(frame_index, None)
        self.pending.pop(frame_index, None)
        self.corrections.discard(frame_index)
        memory = self.store.conditioning.get(frame_index)
        if memory is not None:
            self.store.add(frame_index, memory, conditioning=False)
            self.tracked_in_reverse.pop(frame_index, None)

    def forget_passed(self, promptable: EmbeddingCache) -> None:
        """Forget the direction of tracking on frames that can no longer be prompted."""
        for frame in [f for f in self.tracked_in_reverse if f not in promptable]:
            del self.tracked_in_reverse[frame]

    def draft(self) -> 'TrackedObject':
        """Make a copy to work on; the object changes only by :meth:`adopt`."""
        return TrackedObject(
            object_id=self.object_id,
            store=StagedStore(self.store),
            prompts=dict(self.prompts),
            pending=dict(self.pending),
            tracked_in_reverse=dict(self.tracked_in_reverse),
            corrections=set(self.corrections),
        )

    def adopt(self, draft: 'TrackedObject') -> None:
        """Take over the changes of a draft."""
        if isinstance(draft.store, StagedStore):
            draft.store.settle()
        self.prompts = draft.prompts
        self.pending = draft.pending
        self.tracked_in_reverse = draft.tracked_in_reverse
        self.corrections = draft.corrections

    def branch(self, space: ArchiveSpace | None) -> 'TrackedObject':
        """Copy the object; the copy shares the tensors, which never change."""
        return TrackedObject(
            object_id=self.object_id,
            store=self.store.branch(space),
            prompts=dict(self.prompts),
            pending=dict(self.pending),
            tracked_in_reverse=dict(self.tracked_in_reverse),
            corrections=set(self.corrections),
        )


@dataclass(slots=True, kw_only=True)
class VideoState(ReleasedState):
    """A video that is worked on.

    Scripts look it up by the keys of the released state, ``state['num_frames']``.

    ``copy.deepcopy`` branches it: both sessions go on from here, each its own way.
    Calls may come from any thread: a click of a user interface waits until the frame
    that is tracked just now is done.

    Attributes:
        frames: Reads its frames.
        preprocessor: Prepares them for the model.
        embeddings: Features of the latest frames.
        num_frames: Length that the time of object pointers is scaled by.
        revisits: Memories that the running pass has left behind are archived.
        reaches_back: Frames that have passed may be prompted while their embeddings
            are kept, though nothing is archived.
        archive_space: Where all objects archive them.
        restorer: Recomputes the spatial memories, which are not archived.
        has_lost_memories: The archive reached its limit, and a warning was given.
        objects: By id, in the order in which they were added.
        cancellations: How often passes were cancelled; those under way stop.
        lock: Held by each call for its time; branches share it, as they share the
            reader.
    """

    frames: FrameReader
    preprocessor: ClipDataPreprocessor
    embeddings: EmbeddingCache
    num_frames: int
    revisits: bool = True
    reaches_back: bool = False
    archive_space: ArchiveSpace | None = None
    restorer: MemoryRestorer | None = None
    has_lost_memories: bool = False
    objects: dict[int, TrackedObject] = field(default_factory=dict)
    cancellations: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __deepcopy__(self, memo: dict[int, object]) -> 'VideoState':
        """A branch of the session."""
        del memo
        with self.lock:
            return self.branch(self.embeddings.branch())

    def __reduce__(self) -> str:
        """Refuse pickling with an error that names alternatives."""
        msg = (
            'The state of a video cannot be pickled: its frames are read from files '
            'and memories may be on the disk. Branch it with copy.deepcopy, or save '
            'the prompts and give them again to a new state'
        )
        raise TypeError(msg)

    def branch(
        self, embeddings: EmbeddingCache, frames: FrameReader | None = None
    ) -> 'VideoState':
        """Copy the state; changes of one do not affect the other.

        Args:
            frames: Reader of the copy; by default shared.
        """
        space = None if self.archive_space is None else self.archive_space.another()
        return VideoState(
            frames=self.frames if frames is None else frames,
            preprocessor=self.preprocessor,
            embeddings=embeddings,
            num_frames=self.num_frames,
            revisits=self.revisits,
            reaches_back=self.reaches_back,
            archive_space=space,
            restorer=self.restorer,
            has_lost_memories=self.has_lost_memories,
            objects={key: obj.branch(space) for key, obj in self.objects.items()},
            lock=self.lock,
        )

    def object(self, object_id: int) -> TrackedObject:
        """Find an object.

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
        """Add points to those that were given on a frame before."""
        obj = self.objects.get(object_id)
        prompt = None if obj is None else obj.prompts.get(frame_index)
        earlier = None if prompt is None else prompt.points
        return points if earlier is None else earlier.followed_by(points)

    def check_frame(self, frame_index: int) -> None:
        """Check that the video has a frame.

        Raises:
            ValueError: If it has not.
        """
        length = self.frames.num_frames
        if not length:
            msg = 'No frame came yet; call track with the first one, then prompt it'
            raise ValueError(msg)
        if not 0 <= frame_index < length:
            msg = f'Frame {frame_index} is not in 0 to {length - 1}, all frames given'
            raise ValueError(msg)
