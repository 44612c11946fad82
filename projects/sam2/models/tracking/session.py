"""The video session: prompts and tracks the objects of one video.

Validation, predictor, stream and tools run it; training tracks batches (:mod:`.clip`).

::

    predictor, stream (apis)   validation, simulated users (rounds.py)   vos_inference
          └────────────────────────────┬───────────────────────────────────────┘
    VideoSession.add_prompt ──▶ decode_frame ──▶ TrackedObject.pending
    VideoSession.step
      ├─ commit          encode_frame_memory: prompts become memories
      ├─ track_objects   MemoryBank.select ─▶ decode_frame ─▶ encode_frame_memory
      ├─ track_pathways  the same for objects with several histories (pathways.py)
      ├─ store.add       the new memories
      └─ MemoryBank.evict_unreachable     to disk, where the video may be revisited
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from ...ops import at_least_float32, upsample_logits
from ...structures import (
    DecoderStep,
    EncodedFrame,
    FrameOutput,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)
from ..memory_bank import (
    Decision,
    FrameNote,
    MemoryQuery,
    MemoryStore,
    join_selections,
)
from .frame import (
    FrameTask,
    decode_frame,
    encode_frame_memory,
    fill_small_holes,
)
from .memory_store import (
    MaskEncoding,
    ObjectMemory,
    ObjectOutput,
    OffloadedMemoryStore,
    OffloadFile,
)
from .objects import ObjectBatch, observe_objects, track_objects
from .pathways import Histories, PathwayFrame, Pathways, track_pathways, tree_bank
from .promptable import PromptableModel

PREVIOUS_LOGIT_LIMIT = 32.0  # masks that a click refines are clamped to it
MAX_LISTED = 8  # objects in an error
BYTES_PER_GB = 10**9
Key = TypeVar('Key')
Value = TypeVar('Value')


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a video is prompted and tracked; may be replaced between calls.

    Attributes:
        fill_hole_area: Largest area of a hole that is filled, in pixels of the stride-4
            mask.
        clear_around_prompts: Delete the tracked memories near a prompted frame.
        corrections_condition: A tracked frame that is prompted also conditions the rest
            of the video.
        memory_dtype: Type of stored spatial memories; None keeps that of the model.
        max_batch_objects: Largest number of objects tracked in one batch.
        num_cached_embeddings: Number of frames whose image embeddings are cached.
        max_archive_gb: Limit of the memories on disk in gigabytes.
        archive_spatial_memories: Write spatial memories to disk as well, instead of
            encoding them again; affects sessions that are opened afterwards.
    """

    fill_hole_area: float = 0.0
    clear_around_prompts: bool = False
    corrections_condition: bool = False
    memory_dtype: torch.dtype | None = None
    max_batch_objects: int = 16
    num_cached_embeddings: int = 8
    max_archive_gb: float = 16.0
    archive_spatial_memories: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptOutput:
    """Decoder output for a prompt, before it is encoded as a memory.

    Attributes:
        step: The final step, of all objects that were prompted together.
        row: Row of the object in ``step``.
        task: The task that was decoded.
        conditioning: The frame will condition the rest of the video.
        features: Features of a frame that may no longer be readable later; else None.
    """

    step: DecoderStep
    row: int
    task: FrameTask
    conditioning: bool
    features: ImageFeatures | None = None

    def output(self) -> ObjectOutput:
        """The mask of the object."""
        rows = slice(self.row, self.row + 1)
        return ObjectOutput(
            mask_logits=self.step.mask_logits[rows],
            object_score_logits=self.step.object_score_logits[rows],
            ious=self.step.ious[rows],
        )


@dataclass(slots=True, kw_only=True)
class TrackedObject:
    """One object of a video.

    Attributes:
        object_id: Its id.
        store: Its memories; with several histories, those of the best one.
        prompts: Its prompts by frame.
        pending: Outputs of prompts that are not encoded as memories yet, by frame.
        tracked_in_reverse: Frames on which it was tracked, and whether backwards.
        corrections: Frames whose tracked memory is the output of a prompt.
        pathways: The other histories, of a memory bank that keeps several.
    """

    object_id: int
    store: MemoryStore
    prompts: dict[int, FramePrompt] = field(default_factory=dict)
    pending: dict[int, PromptOutput] = field(default_factory=dict)
    tracked_in_reverse: dict[int, bool] = field(default_factory=dict)
    corrections: set[int] = field(default_factory=set)
    pathways: Pathways | None = None

    @property
    def stores(self) -> tuple[MemoryStore, ...]:
        """The memories of all histories, those of the best one first."""
        return (self.store, *(self.pathways.others if self.pathways else ()))

    @property
    def conditioning_frames(self) -> set[int]:
        """Frames that condition the rest of the video, or will."""
        pending = {f for f, output in self.pending.items() if output.conditioning}
        return pending | set(self.store.conditioning)

    def output(self, frame_index: int) -> ObjectOutput | None:
        """Look up the latest mask on a frame, or None."""
        store = self.store
        if frame_index in self.pending:
            return self.pending[frame_index].output()
        memories = (
            store.conditioning if frame_index in store.conditioning else store.tracked
        )
        memory = cast('ObjectMemory | None', memories.get(frame_index))
        if memory is not None:
            return ObjectOutput(
                mask_logits=memory.mask_logits,
                object_score_logits=memory.object_score_logits,
                ious=memory.ious,
            )
        if isinstance(store, OffloadedMemoryStore) and frame_index in store.offloaded:
            return store.offloaded[frame_index].output()
        return None

    def add(
        self,
        frame_index: int,
        memory: ObjectMemory,
        *,
        conditioning: bool,
        note: FrameNote | None = None,
    ) -> None:
        """Add the memory and note of a frame, in place of earlier ones.

        Of several histories, the one that is shown remains.
        """
        self.pathways = None
        self.store.add(frame_index, memory, conditioning=conditioning, note=note)
        self.corrections.discard(frame_index)

    def erase(self, frame_index: int) -> None:
        """Delete the tracked memory of a frame, if there is one."""
        for store in self.stores:
            store.erase(frame_index)
        self.corrections.discard(frame_index)

    def clear_prompts(self, frame_index: int) -> None:
        """Delete the prompts of a frame; its mask stays as a tracked one."""
        self.prompts.pop(frame_index, None)
        self.pending.pop(frame_index, None)
        self.corrections.discard(frame_index)
        self.pathways = None
        memory = self.store.conditioning.get(frame_index)
        if memory is not None:
            note = self.store.notes.get(frame_index)
            self.store.add(frame_index, memory, conditioning=False, note=note)
            self.tracked_in_reverse.pop(frame_index, None)

    def copy(self) -> 'TrackedObject':
        """Copy the object; the copy shares the tensors, which are never changed."""
        return TrackedObject(
            object_id=self.object_id,
            store=self.store.copy(),
            prompts=dict(self.prompts),
            pending=dict(self.pending),
            tracked_in_reverse=dict(self.tracked_in_reverse),
            corrections=set(self.corrections),
            pathways=self.pathways and self.pathways.copy(),
        )


class VideoSession:
    """Prompts and tracks the objects of one video.

    - A prompt on a frame that was not tracked makes it a conditioning frame. The prompt
      is decoded without memories.
    - A prompt on a tracked frame is a correction and decoded with memories. With
      ``corrections_condition`` the frame becomes a conditioning frame; otherwise the
      next pass overwrites the correction.
    - A conditioning frame that is prompted again remains one, with the new memory.
    - When prompts are cleared, the mask of the frame stays, as that of a tracked frame.
      When the last conditioning frame of an object is cleared, its other prompts become
      conditioning: a correction that is still shown is used as it is, one that a pass
      has overwritten is decoded again. An object without a prompt cannot be tracked.
    - Outputs of prompts become memories in :meth:`commit`, which :meth:`step` calls.
      Clearing a prompt or removing an object before that leaves no trace.

    A call that fails may leave the session half changed; within :meth:`edit` it stays
    as it was. ``copy.deepcopy`` makes an independent copy.

    Args:
        model: The model.
        read_frame: Decodes a frame by its position, (height, width, 3), RGB.
        num_frames: Length of the video; the time of object pointers is scaled by it.
        options: How it is prompted and tracked.
        revisits: Later passes and prompts may return to any frame, so memories out of
            reach of the running pass go to a temporary file. Otherwise they are
            deleted.
        offload_to_host: Offload memories to the memory of the host, not to a file.
        reaches_back: Frames whose embeddings are cached may be prompted, although the
            video is not revisited; their memories are kept as long.

    Attributes:
        objects: By id, in the order in which they were added.
        embeddings: Image features of the latest frames.
        video_size: Height and width of the video, once a frame of it was read.
        lock: Held by :meth:`edit`; copies share it, as they share the reader.

    Example:
        >>> session = VideoSession(model, frames.__getitem__, num_frames=len(frames))
        >>> output = session.add_prompt(0, [7], FramePrompt(mask=mask))
        >>> for frame_index in range(len(frames)):
        ...     batches = session.step(frame_index)
        ...     mask_logits = session.objects[7].output(frame_index).mask_logits
    """

    def __init__(
        self,
        model: PromptableModel,
        read_frame: Callable[[int], NDArray[np.uint8]],
        num_frames: int,
        *,
        options: SessionOptions | None = None,
        revisits: bool = False,
        offload_to_host: bool = False,
        reaches_back: bool = False,
    ) -> None:
        self.model = model
        self.read_frame = read_frame
        self.num_frames = num_frames
        self.options = SessionOptions() if options is None else options
        self.revisits = revisits
        self.reaches_back = reaches_back
        self.objects: dict[int, TrackedObject] = {}
        self.embeddings: OrderedDict[int, ImageFeatures] = OrderedDict()
        self.video_size: tuple[int, int] | None = None
        self.lock = threading.RLock()
        self.offload_file: OffloadFile | None = None
        self._encodes_again = False
        if revisits:
            self.offload_file = OffloadFile(in_memory=offload_to_host)
            # Objects that compete for pixels cannot be encoded again one by one.
            compete = model.tracker.non_overlapping_memories
            self._encodes_again = not (compete or self.options.archive_spatial_memories)
        self._embeddings_to_encode: OrderedDict[int, ImageFeatures] = OrderedDict()
        self._has_warned = False

    @property
    def is_delayed(self) -> bool:
        """Whether masks of earlier frames may still change while the video is tracked.

        A memory bank that keeps several histories of an object shows the best one so
        far; the final masks are those that :meth:`TrackedObject.output` gives when the
        pass is over.
        """
        return tree_bank(self.model) is not None

    @contextmanager
    def edit(self, options: SessionOptions | None = None) -> Iterator[None]:
        """Change the session; if anything fails it stays as it was.

        One thread at a time: others wait until the change is complete.

        Args:
            options: New options; None keeps the current ones.
        """
        with self.lock:
            self.options = options or self.options
            before = self.objects, self.embeddings
            self.objects = {key: obj.copy() for key, obj in self.objects.items()}
            if not self.revisits:  # what is cached decides which frames can be prompted
                self.embeddings = self.embeddings.copy()
            try:
                yield
            except BaseException:
                self.objects, self.embeddings = before
                raise

    def get_object(self, object_id: int) -> TrackedObject:
        """Look up an object.

        Raises:
            ValueError: If there is no object with this id.
        """
        if object_id not in self.objects:
            known = ', '.join(map(str, self.objects)) or 'none yet'
            msg = f'There is no object {object_id}; known ids: {known}'
            raise ValueError(msg)
        return self.objects[object_id]

    @torch.no_grad()
    def add_prompt(
        self,
        frame_index: int,
        object_ids: Sequence[int],
        prompt: FramePrompt,
        *,
        correct: Callable[[Tensor], PointPrompt] | None = None,
        num_corrections: int = 0,
    ) -> FrameOutput:
        """Prompt objects on a frame; :meth:`commit` encodes the output as memories.

        Args:
            frame_index: The frame.
            object_ids: One for each row of the prompt; unknown ids add objects.
                Objects that were tracked before are prompted one at a time.
            prompt: All points that the objects have on the frame, or masks.
            correct: Simulates the next correction click, see :class:`FrameTask`.
            num_corrections: Number of correction clicks.
        """
        for row, object_id in enumerate(object_ids):
            if object_id not in self.objects:
                self.objects[object_id] = self._new_object(object_id)
            rows = slice(row, row + 1)
            self.objects[object_id].prompts[frame_index] = prompt.select(rows)
        objects = [self.objects[object_id] for object_id in object_ids]
        uses_memory = all(
            frame_index in obj.tracked_in_reverse and obj.store.conditioning
            for obj in objects
        )
        reverse = uses_memory and objects[0].tracked_in_reverse[frame_index]
        outputs = [obj.output(frame_index) for obj in objects]
        previous = [output.mask_logits for output in outputs if output is not None]
        limit = PREVIOUS_LOGIT_LIMIT
        task = FrameTask(
            query=self._query(frame_index, reverse=reverse),
            prompt=prompt,
            uses_memory=uses_memory,
            correct=correct,
            num_corrections=num_corrections,
            reread_prompt=True,
            previous_logits=torch.cat(previous).clamp(-limit, limit)
            if len(previous) == len(objects)
            else None,
        )
        prompted = f'the prompt of {_names(object_ids)} on frame {frame_index}'
        with add_context(f'while decoding {prompted}'):
            features = self.features(frame_index)
            heads, selection = self.model.heads, None
            if uses_memory and prompt.mask is None:
                bank = heads.tracker.memory_bank
                selections = [bank.select(obj.store, task.query) for obj in objects]
                selection = join_selections(selections)
            repeated = features.repeated(len(objects))
            steps = decode_frame(heads, repeated, selection, task)
            shown = fill_small_holes(steps[-1].mask_logits, self.options.fill_hole_area)
        # The output may stay pending for long, so drop the mask at image size.
        final = replace(steps[-1], mask_logits=shown, full_logits=None)
        for row, obj in enumerate(objects):
            obj.pending[frame_index] = PromptOutput(
                step=final,
                row=row,
                task=task,
                conditioning=not uses_memory
                or self.options.corrections_condition
                or frame_index in obj.conditioning_frames,
                features=features if self.reaches_back else None,
            )
        return FrameOutput(frame_index=frame_index, steps=steps)

    @torch.no_grad()
    def clear_prompts(self, frame_index: int, object_id: int) -> None:
        """Clear the prompts of an object on a frame.

        Raises:
            ValueError: If there is no such object.
        """
        obj = self.get_object(object_id)
        obj.clear_prompts(frame_index)
        if not obj.conditioning_frames:
            self._condition_on_corrections(obj)

    def remove_object(self, object_id: int) -> TrackedObject | None:
        """Remove an object, if there is one of this id, and its memories.

        They are freed, in RAM and on disk, when nothing holds the object any more: a
        copy of the session, or the caller (see ``memory_store.py``).
        """
        return self.objects.pop(object_id, None)

    @torch.no_grad()
    def commit(self) -> None:
        """Encode the outputs of all new prompts as memories."""
        encoded: dict[int, list[ObjectMemory]] = {}
        for object_id, obj in self.objects.items():
            for frame, output in obj.pending.items():
                key = id(output.step)
                if key not in encoded:
                    prompted = f'the prompt of object {object_id} on frame {frame}'
                    with add_context(f'while encoding {prompted}'):
                        encoded[key] = self._encode(frame, output)
                memory = encoded[key][output.row]  # one encoding for all rows
                note = self._observe_prompt(obj, output)
                obj.add(frame, memory, conditioning=output.conditioning, note=note)
                if not output.conditioning:
                    obj.corrections.add(frame)
                if self.options.clear_around_prompts:
                    self._clear_around(obj, frame)
            obj.pending = {}

    @torch.no_grad()
    def step(
        self,
        frame_index: int,
        *,
        object_ids: Sequence[int] | None = None,
        reverse: bool = False,
    ) -> list[ObjectBatch]:
        """Track objects on one frame; objects that it conditions keep their masks.

        Args:
            frame_index: The frame.
            object_ids: Objects to track; None tracks all.
            reverse: The pass runs backwards in time.

        Returns:
            The outputs of the tracked objects, batch by batch.

        Raises:
            ValueError: If an object has no prompt.
        """
        if self.objects:
            self.check_prompted()
        self.commit()
        ids = self.objects if object_ids is None else object_ids
        objects = [self.objects[object_id] for object_id in ids]
        query = self._query(frame_index, reverse=reverse)
        tree = self._track_pathways(objects, query)
        single = [obj for obj in objects if obj.object_id not in tree.survivors]
        batches = self._track(single, query)
        self._add_tracked(batches, query)
        self._add_pathways(tree, query)
        if self.offload_file is not None:
            self.offload_file.write_pending()  # of the previous step
        for obj in objects:
            if (
                frame_index in obj.store.conditioning
                and self.options.clear_around_prompts
            ):
                self._clear_around(obj, frame_index)
            obj.tracked_in_reverse[frame_index] = reverse
            self._evict(obj, query)
        self._limit_offloaded()
        return [*batches, *tree.shown]

    def check_prompted(self) -> None:
        """Check that there is an object to track and each has a prompt.

        Raises:
            ValueError: If not.
        """
        if not self.objects:
            msg = 'There is no object to track; prompt one on some frame first'
            raise ValueError(msg)
        for object_id, obj in self.objects.items():
            if not obj.conditioning_frames:
                msg = f'Object {object_id} has no prompt left; prompt it, or remove it'
                raise ValueError(msg)

    def features(self, frame_index: int) -> ImageFeatures:
        """Image features of a frame, encoded if they are not cached."""
        capacity = self.options.num_cached_embeddings
        return _cached(self.embeddings, frame_index, self._encode_image, capacity)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """Copy the session; the copy shares the model, the reader and the file."""
        del memo
        other = object.__new__(type(self))
        with self.lock:
            other.__dict__.update(self.__dict__)
            other.objects = {key: obj.copy() for key, obj in self.objects.items()}
            other.embeddings = self.embeddings.copy()
        other._embeddings_to_encode = OrderedDict()
        for store in (s for obj in other.objects.values() for s in obj.stores):
            if isinstance(store, OffloadedMemoryStore) and self._encodes_again:
                store.encode_again = other._encode_again
        return other

    def _new_object(self, object_id: int) -> TrackedObject:
        store = MemoryStore()
        if self.offload_file is not None:
            store = OffloadedMemoryStore(
                file=self.offload_file,
                encode_again=self._encode_again if self._encodes_again else None,
            )
        return TrackedObject(object_id=object_id, store=store)

    def _query(self, frame_index: int, *, reverse: bool) -> MemoryQuery:
        return MemoryQuery(
            frame_index=frame_index,
            num_video_frames=self.num_frames,
            mode=TrackingMode.EVALUATION,
            reverse=reverse,
        )

    def _condition_on_corrections(self, obj: TrackedObject) -> None:
        """Let all remaining prompts of an object condition the video.

        A correction that is still shown is used as it is. One that a pass has
        overwritten is decoded again if its frame can still be read.
        """
        kept: dict[int, ObjectMemory] = {}
        for frame, prompt in tuple(obj.prompts.items()):
            if frame in obj.pending:
                continue
            if frame in obj.corrections and obj.output(frame) is not None:
                restored = f'object {obj.object_id} on frame {frame}'
                with add_context(f'while restoring {restored}'):
                    kept[frame] = cast('ObjectMemory', obj.store.tracked_memory(frame))
            elif self.revisits or frame in self.embeddings:
                self.add_prompt(frame, [obj.object_id], prompt)
        # Added last, or the frames that are decoded again would attend to them.
        for frame, memory in kept.items():
            note = obj.store.notes.get(frame)
            obj.add(frame, memory, conditioning=True, note=note)
        obj.pending = {
            frame: replace(output, conditioning=True)
            for frame, output in obj.pending.items()
        }

    def _track(
        self, objects: Sequence[TrackedObject], query: MemoryQuery
    ) -> list[ObjectBatch]:
        """Track the objects that the frame does not condition; nothing is changed."""
        frame_index = query.frame_index
        stores = {
            obj.object_id: obj.store
            for obj in objects
            if frame_index not in obj.store.conditioning
        }
        if not stores:
            return []
        names = _names(list(stores))
        with add_context(f'while tracking {names} on frame {frame_index}'):
            return list(
                track_objects(
                    self.model.heads,
                    stores,
                    self.features(frame_index),
                    query,
                    max_batch_objects=self.options.max_batch_objects,
                    video_size=self.video_size,
                )
            )

    def _track_pathways(
        self, objects: Sequence[TrackedObject], query: MemoryQuery
    ) -> PathwayFrame:
        """Track the objects with several histories; nothing is changed."""
        bank, frame_index = tree_bank(self.model), query.frame_index
        if bank is None:
            return PathwayFrame()
        histories = {
            obj.object_id: Histories.of(obj.store, obj.pathways, bank.num_pathways)
            for obj in objects
            if obj.pathways is not None
            and obj.pathways.reach(query)
            and frame_index not in obj.store.conditioning
        }
        if not histories:
            return PathwayFrame()
        names = _names(list(histories))
        with add_context(f'while tracking {names} on frame {frame_index}'):
            return track_pathways(
                self.model.heads,
                bank,
                histories,
                self.features(frame_index),
                query,
                max_batch_objects=self.options.max_batch_objects,
            )

    def _add_tracked(self, batches: Sequence[ObjectBatch], query: MemoryQuery) -> None:
        """Add the memories of objects with one history."""
        frame_index, reverse = query.frame_index, query.reverse
        has_tree = tree_bank(self.model) is not None
        for batch in batches:
            memories = self._memories_of(batch)
            notes = _notes(batch, reverse=reverse)
            for object_id, memory in zip(batch.object_ids, memories, strict=True):
                obj, note = self.objects[object_id], notes.get(object_id)
                obj.add(frame_index, memory, conditioning=False, note=note)
                if has_tree:
                    obj.pathways = Pathways(frame_index=frame_index, reverse=reverse)

    def _add_pathways(self, tree: PathwayFrame, query: MemoryQuery) -> None:
        """Continue the histories of objects by the candidates that survived."""
        memories = [self._memories_of(batch) for batch in tree.batches]
        for object_id, survivors in tree.survivors.items():
            obj = self.objects[object_id]
            obj.store, obj.pathways = tree.histories[object_id].continued(
                survivors, memories, query
            )
            obj.corrections.discard(query.frame_index)

    def _memories_of(self, batch: ObjectBatch) -> list[ObjectMemory]:
        """The memories of a batch of tracked objects, with the masks to be shown."""
        logits = batch.output.final.mask_logits
        shown = fill_small_holes(logits, self.options.fill_hole_area)
        binary = [decision.conditions for decision in batch.decisions or ()]
        return self._split(batch.output, shown, binary=binary)

    def _observe_prompt(
        self, obj: TrackedObject, output: PromptOutput
    ) -> FrameNote | None:
        """Let the memory bank look at the output of a prompt."""
        bank = self.model.tracker.memory_bank
        if not bank.observes_frames:
            return None
        (decision,) = observe_objects(
            bank,
            [obj.store],
            output.step.select(slice(output.row, output.row + 1)),
            output.task.query,
            frame_size=self.model.data_preprocessor.image_size,
            video_size=self.video_size,
            is_prompted=True,
        )
        return _note(decision, reverse=None)

    def _evict(self, obj: TrackedObject, query: MemoryQuery) -> None:
        """Evict memories that neither the pass nor a prompt on a past frame reaches."""
        if self.reaches_back:
            oldest = min(obj.tracked_in_reverse)
            query = replace(query, frame_index=min(oldest, query.frame_index))
        evicted = f'object {obj.object_id} on frame {query.frame_index}'
        with add_context(f'while evicting memories of {evicted}'):
            for store in obj.stores:
                self.model.tracker.memory_bank.evict_unreachable(store, query)
        if not self.revisits:  # only frames in the cache can still be prompted
            tracked = obj.tracked_in_reverse.items()
            obj.tracked_in_reverse = {f: r for f, r in tracked if f in self.embeddings}

    def _limit_offloaded(self) -> None:
        """Delete the oldest memories on disk beyond ``max_archive_gb``; warn once.

        Their frames count as not tracked; the running pass does not need them.
        """
        limit = self.options.max_archive_gb
        file = self.offload_file
        if file is None or file.used_bytes <= limit * BYTES_PER_GB:
            return
        stores = [
            (object_id, store.offloaded)
            for object_id, obj in self.objects.items()
            for store in obj.stores
            if isinstance(store, OffloadedMemoryStore)
        ]
        # By write, since histories share them. The file may hold more, of copies of
        # this session.
        sizes = {
            memory.tensors.serial: memory.tensors.num_bytes
            for _, offloaded in stores
            for memory in offloaded.values()
        }
        excess = -limit * BYTES_PER_GB + sum(sizes.values())
        if excess <= 0:
            return
        while excess > 0:
            _, frame, object_id = min(
                (memory.tensors.serial, frame, object_id)
                for object_id, offloaded in stores
                for frame, memory in islice(offloaded.items(), 1)  # the oldest
            )
            erased = {
                offloaded[frame].tensors.serial
                for owner, offloaded in stores
                if owner == object_id and frame in offloaded
            }
            excess -= sum(map(sizes.__getitem__, erased))
            self.objects[object_id].erase(frame)
            self.objects[object_id].tracked_in_reverse.pop(frame, None)
        if not self._has_warned:
            self._has_warned = True
            msg = (
                f'What was tracked of this video takes more than max_archive_gb='
                f'{limit:g}: the frames that were tracked first are deleted, and count '
                f'as not tracked. The running pass does not need them. To return to '
                f'them, build the predictor with a larger max_archive_gb'
            )
            warnings.warn(msg, stacklevel=2)

    def _clear_around(self, obj: TrackedObject, frame_index: int) -> None:
        """Delete tracked memories within reach of a prompted frame."""
        bank = self.model.tracker.memory_bank
        reach = bank.stride * bank.num_frames
        for frame in range(frame_index - reach, frame_index + reach + 1):
            obj.erase(frame)

    def _encode(self, frame_index: int, output: PromptOutput) -> list[ObjectMemory]:
        """Encode the output of a prompt as the memories of its objects."""
        features = output.features or self.features(frame_index)
        heads, step = self.model.heads, output.step
        repeated = features.repeated(len(step.mask_logits))
        encoded = encode_frame_memory(heads, repeated, (step,), output.task)
        binary = heads.tracker.binary_clicked_memories
        num_objects = len(step.mask_logits)
        return self._split(encoded, step.mask_logits, binary=[binary] * num_objects)

    def _split(
        self, output: EncodedFrame, shown: Tensor, *, binary: Sequence[bool]
    ) -> list[ObjectMemory]:
        """Split the memories of a batch by object.

        Masks and scores are at least float32, under autocast as well.

        Args:
            shown: Masks that are shown, (O, 1, H4, W4).
            binary: For each object, whether its encoded mask was thresholded; empty
                where none was.
        """
        step, memory = output.final, output.memory
        spatial = memory.spatial.to(self.options.memory_dtype or memory.spatial.dtype)
        ious = at_least_float32(memory.ious)
        scores = at_least_float32(memory.object_score_logits)
        masks = at_least_float32(shown)
        is_filled = shown is not step.mask_logits
        encoding = MaskEncoding(
            autocast=_autocast_dtype(spatial.device),
            fill_hole_area=self.options.fill_hole_area if is_filled else 0.0,
        )
        memories = []  # clones, or each would hold the tensors of the whole batch
        for row in range(len(spatial)):
            rows = slice(row, row + 1)
            mask = masks[rows].clone()
            memories.append(
                ObjectMemory(
                    spatial=spatial[rows].clone(),
                    object_pointer=memory.object_pointer[rows].clone(),
                    ious=ious[rows].clone(),
                    object_score_logits=scores[rows].clone(),
                    mask_logits=mask,
                    encoded_logits=step.mask_logits[rows].clone()
                    if is_filled
                    else mask,
                    encoding=replace(encoding, binary=bool(binary) and binary[row]),
                )
            )
        return memories

    @torch.no_grad()
    def _encode_image(self, frame_index: int) -> ImageFeatures:
        pixels = self.read_frame(frame_index)
        self.video_size = pixels.shape[0], pixels.shape[1]
        return self.model.encode(self.model.data_preprocessor.frame(pixels))

    @torch.no_grad()
    def _encode_again(
        self,
        frame_index: int,
        mask_logits: Tensor,
        object_score_logits: Tensor,
        encoding: MaskEncoding,
    ) -> Tensor:
        """Encode the spatial memory of an offloaded frame, (1, Cm, H16, W16)."""
        dtype = encoding.autocast
        kind = mask_logits.device.type
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            features = self._features_to_encode(frame_index)
            spatial: Tensor = self.model.tracker.encode_memory(
                features,
                upsample_logits(mask_logits, features.frame_size),
                object_score_logits > 0,
                binary=encoding.binary,
            )
        return spatial.to(self.options.memory_dtype or spatial.dtype)

    def _features_to_encode(self, frame_index: int) -> ImageFeatures:
        """Features for the memory encoder, in a cache of their own."""
        if frame_index in self.embeddings:
            return self.features(frame_index)

        def encode(frame_index: int) -> ImageFeatures:
            features = self._encode_image(frame_index)
            return replace(features, high_res_8=None, high_res_4=None)

        capacity = self.model.tracker.memory_bank.num_frames
        return _cached(self._embeddings_to_encode, frame_index, encode, capacity)


def _notes(batch: ObjectBatch, *, reverse: bool) -> dict[int, FrameNote | None]:
    """Notes of the objects of a batch, by id; empty without decisions."""
    if batch.decisions is None:
        return {}
    decisions = zip(batch.object_ids, batch.decisions, strict=True)
    return {key: _note(decision, reverse=reverse) for key, decision in decisions}


def _note(decision: Decision, *, reverse: bool | None) -> FrameNote | None:
    if decision.note is None:
        return None
    return FrameNote(value=decision.note, reverse=reverse)


def _cached(
    cache: OrderedDict[Key, Value],
    key: Key,
    compute: Callable[[Key], Value],
    capacity: int,
) -> Value:
    """Look up or compute a value; the least recently used ones are evicted."""
    if key not in cache:
        cache[key] = compute(key)
    cache.move_to_end(key)
    while len(cache) > capacity:
        cache.popitem(last=False)
    return cache[key]


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in, or None without autocast."""
    kind = device.type
    if not torch.amp.is_autocast_available(kind) or not torch.is_autocast_enabled(kind):
        return None
    return torch.get_autocast_dtype(kind)


def _names(object_ids: Sequence[int]) -> str:
    """Name objects in an error: "objects 1, 2 and 9 more"."""
    names = ', '.join(map(str, object_ids[:MAX_LISTED]))
    num_more = len(object_ids) - MAX_LISTED
    noun = 'objects' if len(object_ids) > 1 else 'object'
    return f'{noun} {names}' + (f' and {num_more} more' if num_more > 0 else '')


@contextmanager
def add_context(where: str) -> Iterator[None]:
    """Add the current activity to the message of an error; its type stays."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            error.strerror = f'{error.strerror} ({where})'
        elif len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (f'{error.args[0]} ({where})',)
        raise
