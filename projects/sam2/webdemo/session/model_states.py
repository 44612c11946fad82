"""The model's side of a session: states of the video predictor, rebuilt when needed."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...apis import SAM2VideoPredictor
from ...apis.inputs import read_points
from ...apis.video_predictor import VideoState
from ...models.tracking.memory_store import OffloadedMemoryStore
from ...models.tracking.session import TrackedObject
from ...ops import EncodedMask, decode_masks, encode_masks, upsample_logits
from ...structures import FrameMasks, FramePrompt, PointPrompt
from .document import AnnotatedObject, Box, Point, Prompt
from .video import AnnotatedVideo

NUM_STILLS = 8  # images whose states are kept
# Frames; without a memory policy no model attends to older ones but the prompted.
MAX_WARM_UP = 16
NUM_ENCODED = 8  # masks at the size of the video that are in memory at a time
DICT_ENTRY_BYTES = 120
MAX_MEMORIES = 50_000  # tracked frames of all objects; each takes 0.6 kB of RAM

ModelObjects = Mapping[int, TrackedObject | None]
ScoredMask = tuple[EncodedMask, int]  # with the score of the mask log


class ModelStates:
    """What the model knows about the objects of a session.

    It holds objects that have prompts; the others cannot be tracked. An object that is
    missing (after a restart, or an undo whose model state was not kept) gets its
    prompts again when it is needed, and memories of the frames before a pass are
    tracked again:

    - Exact: prompts on frames that were not tracked before them, with all their steps,
      and drawn masks. So is a pass that starts at most 16 frames after such a prompt,
      in the same direction.
    - Not exact: a correction of a tracked frame becomes a mask prompt of the mask that
      was saved, and so does the saved mask 16 frames before a pass that starts farther
      away. Saved masks themselves never change by this.

    So is a return to frames that were tracked very long ago: the memories of the latest
    50,000 tracked frames of all objects together are kept.

    Corrections always condition the rest of the video, and objects may overlap,
    whatever the options of the predictor are.

    Args:
        video: The video.
        predictor: Its options may be changed at any time.
        read_mask: Reads the saved mask of an object on a frame, or None.
        read_offset: Reads a mask by its offset in the mask log.
    """

    def __init__(
        self,
        video: AnnotatedVideo,
        predictor: SAM2VideoPredictor,
        *,
        read_mask: Callable[[int, int], EncodedMask | None],
        read_offset: Callable[[int], EncodedMask],
    ) -> None:
        self.predictor = predictor
        self._video = video
        self._read_mask = read_mask
        self._read_offset = read_offset
        # By frame for images; a video has one state, of key 0.
        self._states: OrderedDict[int, VideoState] = OrderedDict()

    def use_predictor(self, predictor: SAM2VideoPredictor) -> None:
        """Use another model; all objects will get their prompts again."""
        self.predictor = predictor
        self._states.clear()

    @contextmanager
    def edit(self, frame_index: int) -> Iterator['FrameEditor']:
        """Change the state of a frame; if anything fails it stays as it was."""
        state = self._state(frame_index)
        options = replace(
            self.predictor.options, corrections_condition=True, non_overlap_masks=False
        )
        with state.edit(options):
            yield FrameEditor(
                state=state,
                frame_offset=frame_index if self._video.kind == 'images' else 0,
                read_mask=self._read_mask,
                read_offset=self._read_offset,
            )

    def objects(self, object_ids: Iterable[int], frame_index: int) -> ModelObjects:
        """What the model knows about objects; it is never changed afterwards."""
        state = self._states.get(self._key(frame_index))
        known = {} if state is None else state.objects
        return {key: known.get(key) for key in object_ids}

    def set_objects(self, objects: ModelObjects, frame_index: int) -> None:
        """Restore what :meth:`objects` returned."""
        state = self._states.get(self._key(frame_index))
        if state is not None:
            with state.lock:
                changed = {**state.objects, **objects}
                state.objects = {
                    key: obj for key, obj in sorted(changed.items()) if obj is not None
                }

    def drop_objects(self, object_ids: Iterable[int]) -> None:
        """Forget objects; they get their prompts again when they are needed."""
        for key in self._states:
            self.set_objects(dict.fromkeys(object_ids), key)

    def _key(self, frame_index: int) -> int:
        return frame_index if self._video.kind == 'images' else 0

    def _state(self, frame_index: int) -> VideoState:
        key = self._key(frame_index)
        if key not in self._states:
            video = self._video
            if video.kind == 'images':
                self._states[key] = self.predictor.open(video.still_reader(key))
            else:
                self._states[key] = self.predictor.open(video.tracking_reader())
        self._states.move_to_end(key)
        while len(self._states) > NUM_STILLS:
            self._states.popitem(last=False)
        return self._states[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEditor:
    """Prompts and tracks objects within one edit of a state.

    Frames are those of the annotated video.

    Attributes:
        state: The state.
        frame_offset: Frame of the annotated video that is the first of the state.
        read_mask: See :class:`ModelStates`.
        read_offset: Likewise.
    """

    state: VideoState
    frame_offset: int
    read_mask: Callable[[int, int], EncodedMask | None]
    read_offset: Callable[[int], EncodedMask]

    def prompt(
        self,
        obj: AnnotatedObject,
        frame_index: int,
        points: Sequence[Point],
        box: Box | None,
    ) -> tuple[ScoredMask, bool]:
        """Prompt an object with points, a box, or both.

        Returns:
            Its mask, and whether the prompt corrects a tracked frame.

        Raises:
            ValueError: If the prompt is malformed or outside of the frame.
        """
        key, local = obj.object_id, frame_index - self.frame_offset
        prompt = self._point_prompt(points, box)  # checked before anything is tracked
        self.restore_prompts(obj)
        if key in self.state.objects and self.read_mask(key, frame_index) is not None:
            self._warm_up([obj], frame_index, step=1, and_itself=True)
        before = self.state.objects.get(key)
        earlier = obj.prompts.get(frame_index)
        is_correction = before is not None and (
            local in before.tracked_in_reverse
            or (earlier is None and before.output(local) is not None)
            or (earlier is not None and earlier.correction)
        )
        self.state.add_prompt(local, [key], FramePrompt(points=prompt))
        self._sort_objects()
        return self.masks([key], frame_index)[0], is_correction

    def draw(self, obj: AnnotatedObject, frame_index: int, code: EncodedMask) -> None:
        """Prompt an object with a mask.

        One that is missing gets it with its other prompts, when it is tracked.
        """
        if obj.object_id in self.state.objects:
            self._add_mask_prompt(obj.object_id, frame_index, code)

    def _add_mask_prompt(
        self, object_id: int, frame_index: int, code: EncodedMask
    ) -> None:
        mask = FrameMasks(object_ids=(object_id,), masks=decode_masks([code]))
        prompt = self.state.model.data_preprocessor.mask_prompt(mask)
        local = frame_index - self.frame_offset
        self.state.add_prompt(local, [object_id], FramePrompt(mask=prompt))
        self._sort_objects()

    def clear(self, obj: AnnotatedObject, frame_index: int) -> bool:
        """Clear the prompts of an object on a frame.

        Returns:
            Whether it still has a mask there, as on a tracked frame.
        """
        self.restore_prompts(obj)
        local = frame_index - self.frame_offset
        self.state.clear_prompts(local, obj.object_id)
        tracked = self.state.objects[obj.object_id]
        has_mask = tracked.output(local) is not None
        if not tracked.conditioning_frames:
            self.state.remove_object(obj.object_id)
        return has_mask

    def erase(self, obj: AnnotatedObject, frames: Iterable[int]) -> None:
        """Delete prompts and memories of frames."""
        tracked = self.state.objects.get(obj.object_id)
        if tracked is None:
            return
        for frame_index in frames:
            local = frame_index - self.frame_offset
            tracked.clear_prompts(local)
            tracked.erase(local)
            tracked.tracked_in_reverse.pop(local, None)
        if not tracked.conditioning_frames:
            self.state.remove_object(obj.object_id)

    def track(
        self, objects: Sequence[AnnotatedObject], frame_index: int, *, reverse: bool
    ) -> list[ScoredMask]:
        """Track objects on a frame.

        Returns:
            The mask of each object.

        Raises:
            BrokenFrameError: If the frame cannot be read.
        """
        for obj in objects:
            self.restore_prompts(obj)
        self._warm_up(objects, frame_index, step=-1 if reverse else 1)
        object_ids = [obj.object_id for obj in objects]
        local = frame_index - self.frame_offset
        self.state.step(local, object_ids=object_ids, reverse=reverse)
        self._forget_oldest(object_ids)
        tracked = [obj for obj in objects if frame_index not in obj.prompts]
        return self.masks([obj.object_id for obj in tracked], frame_index)

    @torch.no_grad()
    def masks(self, object_ids: Sequence[int], frame_index: int) -> list[ScoredMask]:
        """Encode the masks of objects on a frame at the size of the video."""
        local = frame_index - self.frame_offset
        outputs = [self.state.objects[key].output(local) for key in object_ids]
        present = [output for output in outputs if output is not None]
        if len(present) != len(object_ids):
            msg = f'An object has no mask on frame {frame_index}; undo the last change'
            raise ValueError(msg)
        if not present:
            return []
        scores = torch.cat([output.object_score_logits for output in present])
        percent = (100 * scores[:, 0].float().sigmoid()).round().int().tolist()
        codes: list[EncodedMask] = []
        for first in range(0, len(present), NUM_ENCODED):
            chunk = present[first : first + NUM_ENCODED]
            logits = torch.cat([output.mask_logits for output in chunk])
            codes += encode_masks(self._binary_masks(logits))
        return list(zip(codes, percent, strict=True))

    def restore_prompts(self, obj: AnnotatedObject) -> None:
        """Prompt an object that is missing as it was prompted before."""
        if obj.object_id in self.state.objects:
            return
        for frame_index, prompt in obj.prompts.items():
            saved = self.read_mask(obj.object_id, frame_index)
            if prompt.correction and saved is not None:
                self._add_mask_prompt(obj.object_id, frame_index, saved)
                continue
            for step in (*prompt.earlier, prompt):
                self._add_prompt(obj.object_id, frame_index, step)

    def _add_prompt(self, object_id: int, frame_index: int, prompt: Prompt) -> None:
        if prompt.mask:
            code = self.read_offset(prompt.offset)
            self._add_mask_prompt(object_id, frame_index, code)
            return
        points = FramePrompt(points=self._point_prompt(prompt.points, prompt.box))
        self.state.add_prompt(frame_index - self.frame_offset, [object_id], points)
        self._sort_objects()

    def _warm_up(
        self,
        objects: Sequence[AnnotatedObject],
        frame_index: int,
        *,
        step: int,
        and_itself: bool = False,
    ) -> None:
        """Track the frames before a frame again where their memories are missing.

        Args:
            step: 1 or -1, the direction of the pass.
            and_itself: Up to the frame itself, which was tracked and has a mask.
        """
        last = frame_index if and_itself else frame_index - step
        first_of = {
            obj.object_id: first
            for obj in objects
            if (first := self._first_missing(obj, last, step)) is not None
        }
        if not first_of:
            return
        reverse = step < 0
        far = min if step > 0 else max
        for frame in range(far(first_of.values()), last + step, step):
            local = frame - self.frame_offset
            ids = []
            for object_id, first in first_of.items():
                if (frame - first) * step < 0:
                    continue
                known = self._has_memory(object_id, frame - step)
                saved = self.read_mask(object_id, frame)
                if frame == first and not known and saved is not None:
                    # Its memory is that of its saved mask, as of a tracked frame.
                    self._add_mask_prompt(object_id, frame, saved)
                    self.state.commit()
                    tracked = self.state.objects[object_id]
                    tracked.clear_prompts(local)
                    tracked.tracked_in_reverse[local] = reverse
                else:
                    ids.append(object_id)
            if ids:
                self.state.step(local, object_ids=ids, reverse=reverse)

    def _first_missing(self, obj: AnnotatedObject, last: int, step: int) -> int | None:
        """First of the frames up to ``last`` that have a mask but no memory."""
        key = obj.object_id
        first = None
        for frame in range(last, last - step * MAX_WARM_UP, -step):
            in_video = 0 <= frame - self.frame_offset < self.state.num_frames
            if not in_video or self._has_memory(key, frame):
                break
            if self.read_mask(key, frame) is None:
                break
            first = frame
        return first

    def _has_memory(self, object_id: int, frame_index: int) -> bool:
        obj, local = self.state.objects[object_id], frame_index - self.frame_offset
        return local in obj.tracked_in_reverse or local in obj.conditioning_frames

    def _forget_oldest(self, object_ids: Sequence[int]) -> None:
        """Delete the memories that were offloaded first, beyond the limit."""
        limit = MAX_MEMORIES // len(self.state.objects)
        for key in object_ids:
            obj = self.state.objects[key]
            offloaded = cast('OffloadedMemoryStore', obj.store).offloaded
            excess = max(len(offloaded) - limit, 0)
            for local in tuple(islice(offloaded, excess)):
                obj.erase(local)
                obj.tracked_in_reverse.pop(local, None)

    def _point_prompt(self, points: Sequence[Point], box: Box | None) -> PointPrompt:
        shares = read_points(
            points=[[x, y] for x, y, _ in points] or None,
            labels=[label for *_, label in points] or None,
            box=box,
            size=self.state.frames.size,
        )
        if shares is None:
            msg = 'Neither points nor a box are given; give at least one of them'
            raise ValueError(msg)
        return self.state.model.data_preprocessor.point_prompt(shares)

    def _binary_masks(self, logits: Tensor) -> NDArray[np.bool_]:
        """Masks at the size of the video: (O, 1, H4, W4) -> (O, height, width)."""
        upsampled = upsample_logits(logits, self.state.frames.size)
        masks: NDArray[np.bool_] = (upsampled[:, 0] > 0).cpu().numpy()
        return masks

    def _sort_objects(self) -> None:
        """Order objects by id, so that batches do not depend on what happened."""
        self.state.objects = dict(sorted(self.state.objects.items()))


def memory_bytes(obj: TrackedObject, seen: set[int]) -> int:
    """Bytes in RAM of what the model knows about an object.

    Args:
        seen: Ids of tensors and stores that were counted before; extended.
    """
    store = obj.store
    memories = [*store.conditioning.values(), *store.tracked.values()]
    tensors = [
        tensor
        for memory in memories
        for tensor in (memory.spatial, memory.object_pointer)
    ]
    tensors += [getattr(m, 'mask_logits', m.ious) for m in memories]
    tensors += [output.step.candidate_logits for output in obj.pending.values()]
    total = 0
    for tensor in tensors:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            total += tensor.numel() * tensor.element_size()
    if id(obj) not in seen:
        seen.add(id(obj))
        entries = len(obj.tracked_in_reverse)
        if isinstance(store, OffloadedMemoryStore):
            entries += len(store.offloaded)
        total += DICT_ENTRY_BYTES * entries
    return total
