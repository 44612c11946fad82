"""One open session: what annotators do, on top of the store and the model.

::

    command ─▶ ModelStates.edit ─▶ SessionStore.change ─▶ Change
               (VideoState)        (files, undo stack)    (for the page)

A command that fails leaves everything as it was: the model within its edit, the store
within its change.
"""

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from ...apis import SAM2VideoPredictor
from ...ops import EncodedMask, count_encoded_pixels, decode_masks, encode_masks
from .document import (
    AnnotatedObject,
    Box,
    Document,
    Point,
    Prompt,
    add_range,
    choose_color,
    overlaps,
    remove_range,
)
from .folder import SNAPSHOT, SessionFolder
from .mask_log import NO_MASK, NO_SCORE, UNKNOWN_SCORE, MaskChange
from .model_states import FrameEditor, ModelObjects, ModelStates
from .store import Change, HistoryStep, PendingChange, SessionStore
from .video import AnnotatedVideo, BrokenFrameError

__all__ = ['Annotator', 'Change', 'FrameMask', 'ImportedMasks', 'TrackingPass']

MAX_NAME = 200  # characters
MAX_EARLIER = 32  # prompts of a frame that are given again one by one
MAX_MASK_PROMPTS = 8  # of an imported object; each is attended to by every frame
IMPORTED_AT_ONCE = 4096  # masks
DIRECTIONS = ('forward', 'backward', 'both')
COLOR = re.compile('#[0-9a-f]{6}')


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameMask:
    """The mask of an object on a frame.

    Attributes:
        object_id: The object.
        code: The mask, of the size of the frame.
        score: Probability that the object is in the frame; NaN where no model made the
            mask.
    """

    object_id: int
    code: EncodedMask
    score: float


class ImportedMasks(Protocol):
    """An object from a file."""

    @property
    def name(self) -> str:
        """Its name, or ''."""

    @property
    def category(self) -> str:
        """Its class, or ''."""

    @property
    def color(self) -> str:
        """``#rrggbb``, or ''."""

    @property
    def masks(self) -> Mapping[int, EncodedMask]:
        """Its masks by frame."""


@dataclass(slots=True, kw_only=True)
class _Leg:
    """Frames of a pass in one direction."""

    frames: range
    reverse: bool


class TrackingPass(Iterator[Change]):
    """A running pass; each step tracks one frame. Closing it cancels the pass.

    Attributes:
        label: Name of its undo entry.
        object_ids: The objects that it tracks.
        num_frames: Frames that it will track, unless objects or locks change meanwhile.
        num_done: Frames that it has tracked.
        frame: The latest of them, or None.
    """

    def __init__(
        self,
        changes: Generator[Change],
        *,
        label: str,
        object_ids: tuple[int, ...],
        num_frames: int,
    ) -> None:
        self._changes = changes
        self.label = label
        self.object_ids = object_ids
        self.num_frames = num_frames
        self.num_done = 0
        self.frame: int | None = None

    def __next__(self) -> Change:
        change = next(self._changes)
        self.num_done += 1
        self.frame = change.frame if change.frame is not None else self.frame
        return change

    def close(self) -> None:
        """End the pass; the frames that were tracked stay."""
        self._changes.close()


class Annotator:
    """An open session: prompts, draws and tracks objects, with undo of everything.

    Commands come from one thread; :attr:`document`, :meth:`masks`, :meth:`mask`,
    :meth:`scores` and :attr:`video` may be read from any. A command raises a
    ``ValueError`` whose message is for the user, or an ``OSError`` where the disk is
    full or broken; the session is then as it was before.

    Masks equal those of the predictor for the same prompts, bit for bit, where
    corrections condition the video (``add_all_frames_to_correct_as_cond``) and objects
    may overlap. Drawn masks are kept as drawn. What is exact after a restart is said in
    :class:`ModelStates`.

    - The mask of a locked frame, or of a locked object, cannot change. A pass ends at
      the first locked frame of each object; where it starts on a locked frame, that and
      the locked frames next to it are passed over.
    - Each still of a set of images has its own objects, which are not tracked.
    - Commands may come between two steps of a pass, which then goes on as an undo entry
      of its own. Undo, redo and another model end the running passes.

    Example:
        >>> annotator = Annotator.create(folder, video, predictor, name='Cells')
        >>> change = annotator.prompt(0, None, [(60, 40, 1)], None)
        >>> for change in annotator.propagate(None, 0, None, 'forward'):
        ...     masks = annotator.masks(change.frame)
        >>> annotator.close()
    """

    def __init__(
        self,
        files: SessionFolder,
        video: AnnotatedVideo,
        predictor: SAM2VideoPredictor,
        *,
        name: str,
    ) -> None:
        self.session_id = files.path.name
        self.name = name
        self.video = video
        self.recovered = files.was_killed
        self._files = files
        self._store = SessionStore(files, video.num_frames)
        self._num_ended = 0  # passes that run end where it changes
        self._model = ModelStates(
            video,
            predictor,
            read_mask=self._saved_mask,
            read_offset=files.masks.read,
        )

    # Opening and closing -------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: Path,
        video: AnnotatedVideo,
        predictor: SAM2VideoPredictor,
        *,
        name: str,
    ) -> Self:
        """Start a session in a new folder.

        Raises:
            ValueError: If the folder holds a session.
            OSError: If it cannot be written.
        """
        if (folder / SNAPSHOT).exists():
            msg = f'{folder} holds a session already; open it, or give another folder'
            raise ValueError(msg)
        files = SessionFolder(folder)
        try:
            annotator = cls(files, video, predictor, name=_checked_name(name))
            annotator._write_snapshot()
        except BaseException:
            files.close(cleanly=True)
            raise
        return annotator

    @classmethod
    def open(
        cls,
        folder: Path,
        predictor: SAM2VideoPredictor,
        *,
        video_path: Path | None = None,
    ) -> Self:
        """Resume a session.

        Args:
            folder: Its folder.
            predictor: The model to go on with.
            video_path: Where its video is now, if it was moved.

        Raises:
            ValueError: If the session is damaged or open elsewhere, or its video is
                missing or another one.
        """
        files = SessionFolder(folder)
        try:
            data = files.read_snapshot()
            video = _find_video(data['video'], video_path)
            annotator = cls(files, video, predictor, name=data['name'])
            annotator._store.restore(data)
            try:
                annotator._write_snapshot()
            except OSError:  # a full disk; the journal has everything but a new path
                if video_path is not None:
                    raise
        except BaseException:
            # The mark of a killed process stays until a session could be opened.
            files.close(cleanly=not files.was_killed)
            raise
        return annotator

    def rename(self, name: str) -> None:
        """Rename the session."""
        before, self.name = self.name, _checked_name(name)
        try:
            self._write_snapshot()
        except BaseException:
            self.name = before
            raise

    def close(self) -> None:
        """End passes, write everything to the disk, and release the folder."""
        self._num_ended += 1
        try:
            self._write_snapshot()
        except BaseException:
            self._files.close(cleanly=False)
            raise
        self._files.close(cleanly=True)

    # Reading -------------------------------------------------------------------------

    @property
    def document(self) -> Document:
        """The objects."""
        return self._store.document

    @property
    def can_undo(self) -> str | None:
        """Label of the change that :meth:`undo` reverts."""
        entries = self._store.entries
        return entries[-1].label if entries else None

    @property
    def can_redo(self) -> str | None:
        """Label of the change that :meth:`redo` repeats."""
        undone = self._store.undone
        return undone[-1].label if undone else None

    def masks(self, frame_index: int) -> list[FrameMask]:
        """Masks of all objects on a frame, in the order of the objects.

        Raises:
            ValueError: If there is no such frame.
        """
        self.video.check_frame(frame_index)
        return self._read_masks(frame_index)

    def mask(self, object_id: int, frame_index: int) -> FrameMask | None:
        """Mask of an object on a frame, or None.

        Raises:
            ValueError: If there is no such object or frame.
        """
        self.video.check_frame(frame_index)
        self.document.get_object(object_id)
        return next(iter(self._read_masks(frame_index, object_id)), None)

    def scores(self, object_id: int) -> NDArray[np.uint8]:
        """Presence of an object on all frames.

        Returns:
            (T,), percent; 253 where no model made the mask, 255 without a mask.

        Raises:
            ValueError: If there is no such object.
        """
        self.document.get_object(object_id)
        scores = self._store.index.scores.get(object_id)
        if scores is None:
            return np.full(self.video.num_frames, NO_SCORE, np.uint8)
        return scores.copy()

    def _read_masks(
        self, frame_index: int, object_id: int | None = None
    ) -> list[FrameMask]:
        return [
            FrameMask(
                object_id=key,
                code=self._files.masks.read(offset),
                score=score / 100 if score <= 100 else float('nan'),
            )
            for key, offset, score in self._store.offsets(frame_index, object_id)
        ]

    def _saved_mask(self, object_id: int, frame_index: int) -> EncodedMask | None:
        """Look up a mask of which a memory can be made."""
        index = self._store.index
        offset = index.offset(object_id, frame_index)
        if offset == NO_MASK or frame_index in index.broken_frames:
            return None
        return self._files.masks.read(offset)

    # Objects -------------------------------------------------------------------------

    def add_object(self, name: str = '', category: str = '') -> Change:
        """Add an object without prompts."""
        obj = self._new_object(name, category)
        with self._change_objects(f'Add {obj.name}') as change:
            change.objects[obj.object_id] = obj
            change.created = (obj.object_id,)
        return change.result

    def update_object(
        self,
        object_id: int,
        *,
        name: str | None = None,
        category: str | None = None,
        color: str | None = None,
        hidden: bool | None = None,
        locked: bool | None = None,
    ) -> Change:
        """Change properties of an object; None keeps one."""
        obj = self.document.get_object(object_id)
        changes: dict[str, Any] = {}
        if name is not None:
            changes['name'] = _checked_name(name)
        if category is not None:
            changes['category'] = _checked_category(category)
        if color is not None:
            changes['color'] = _checked_color(color)
        if hidden is not None:
            changes['hidden'] = hidden
        if locked is not None:
            changes['locked'] = locked
        changes = {key: v for key, v in changes.items() if getattr(obj, key) != v}
        if not changes:
            return Change()
        if obj.locked and 'locked' not in changes and changes.keys() - {'hidden'}:
            raise _locked(obj)
        verbs = {'name': 'Rename', 'category': 'Classify', 'color': 'Recolor'}
        verb = verbs.get(next(iter(changes)), 'Change')
        if 'hidden' in changes:
            verb = 'Hide' if hidden else 'Show'
        if 'locked' in changes:
            verb = 'Lock' if locked else 'Unlock'
        with self._change_objects(f'{verb} {obj.name}') as change:
            change.objects[object_id] = replace(obj, **changes)
        return change.result

    def delete_objects(self, object_ids: Sequence[int]) -> Change:
        """Delete objects and their masks."""
        objects = [self._unlocked(key) for key in dict.fromkeys(object_ids)]
        if not objects:
            return Change()
        with self._change_tracks(f'Delete {_names(objects)}', objects) as change:
            change.objects |= {obj.object_id: None for obj in objects}
        return change.result

    def merge_objects(self, object_ids: Sequence[int], into: int) -> Change:
        """Give an object the masks of others, which are deleted.

        Where several have a mask, the object gets their union.
        """
        target = self._unlocked(into)
        others = [
            self._unlocked(key) for key in dict.fromkeys(object_ids) if key != into
        ]
        if not others:
            msg = f'Merging {target.name} needs another object; select one more'
            raise ValueError(msg)
        members = [target, *others]
        if self.video.kind == 'images' and len({self._still(o) for o in members}) > 1:
            msg = f'{_names(members)} are on different images; merge those of one'
            raise ValueError(msg)
        changes = self._merged_masks(target, others)
        changed = {change.frame_index for change in changes}
        for frame in changed:
            self._check_unlocked(target, frame)
        label = f'Merge {_names(others)} into {target.name}'
        with self._change_tracks(label, members) as change:
            records = self._store.append(change, changes)
            offsets = dict(self._offsets_of(into))
            offsets |= {record.frame_index: record.offset for record in records}
            prompted = {frame for obj in members for frame in obj.prompts}
            if not prompted and offsets:
                prompted = {min(offsets)}
            merged = target
            for frame in sorted(prompted & offsets.keys()):
                if frame in changed or frame not in target.prompts:
                    prompt = Prompt(mask=True, offset=offsets[frame])
                    merged = merged.with_prompt(frame, prompt)
            change.objects |= {obj.object_id: None for obj in others}
            change.objects[into] = merged
            change.created = (into,)
        return change.result

    def _merged_masks(
        self, target: AnnotatedObject, others: Sequence[AnnotatedObject]
    ) -> list[MaskChange]:
        index, into = self._store.index, target.object_id
        frames = {int(frame) for obj in others for frame in index.frames(obj.object_id)}
        changes = []
        for frame in sorted(frames):
            ids = [
                key
                for key in (into, *(obj.object_id for obj in others))
                if index.offset(key, frame) != NO_MASK
            ]
            score = max(index.score(key, frame) for key in ids)
            mask: EncodedMask | int = index.offset(ids[0], frame)
            if len(ids) > 1:
                codes = [
                    self._files.masks.read(index.offset(key, frame)) for key in ids
                ]
                union = decode_masks(codes).any(axis=0, keepdims=True)
                mask = encode_masks(np.asarray(union))[0]
            changes.append(_mask_change(target, frame, mask, score))
        return changes

    def split_object(self, object_id: int, frame_index: int) -> Change:
        """Make the masks of an object from a frame on those of a new object."""
        self.video.check_frame(frame_index)
        obj = self._unlocked(object_id)
        offsets = self._offsets_of(object_id)
        first = [frame for frame in offsets if frame < frame_index]
        later = [frame for frame in offsets if frame >= frame_index]
        if not first or not later:
            side = 'before' if not first else 'from'
            msg = (
                f'{obj.name} has no mask {side} frame {frame_index}; split it at a '
                f'frame between its masks'
            )
            raise ValueError(msg)
        new = self._new_object(f'{obj.name} 2'[:MAX_NAME], obj.category)
        end = self.video.num_frames
        left = _part(obj, obj, (0, frame_index), first[-1], offsets)
        right = _part(obj, new, (frame_index, end), later[0], offsets)
        changes = []
        for frame in later:
            score = self._store.index.score(object_id, frame)
            mask = offsets[frame]
            changes += [
                _mask_change(new, frame, mask, score),
                _mask_change(obj, frame, None),
            ]
        label = f'Split {obj.name} at frame {frame_index}'
        with self._change_tracks(label, [obj, new], frame_index) as change:
            self._store.append(change, changes)
            change.objects |= {object_id: left, new.object_id: right}
            change.created = (new.object_id,)
        return change.result

    def lock_frames(
        self, object_id: int, start: int, stop: int, locked: bool
    ) -> Change:
        """Lock or unlock the masks of an object on frames ``[start, stop)``."""
        obj = self.document.get_object(object_id)
        self._check_range(start, stop)
        edit = add_range if locked else remove_range
        ranges = edit(obj.locked_frames, start, stop)
        if ranges == obj.locked_frames:
            return Change()
        verb = 'Lock' if locked else 'Unlock'
        label = f'{verb} {obj.name} on {_frames(start, stop)}'
        with self._change_objects(label) as change:
            change.objects[object_id] = replace(obj, locked_frames=ranges)
        return change.result

    # Masks ---------------------------------------------------------------------------

    def prompt(
        self,
        frame_index: int,
        object_id: int | None,
        points: Sequence[Point],
        box: Box | None,
    ) -> Change:
        """Set all points and the box of an object on a frame.

        Args:
            frame_index: The frame.
            object_id: The object; None adds one.
            points: (x, y, label) in pixels of the frame; label 1 is on the object.
            box: Corners ``(x, y, x, y)``, or None. Without points and box the prompts
                of the frame are cleared.
        """
        if not points and box is None:
            if object_id is None:
                msg = 'Neither points nor a box are given; give at least one of them'
                raise ValueError(msg)
            return self.clear_prompts(frame_index, object_id)
        obj = self._object_on(frame_index, object_id)
        earlier = obj.prompts.get(frame_index)
        points = tuple((float(x), float(y), int(label)) for x, y, label in points)
        label = f'{_describe_prompt(earlier, points, box)} {obj.name}'
        label = f'{label} on frame {frame_index}'
        with self._change_frame(label, obj, frame_index) as (change, editor):
            (code, score), is_correction = editor.prompt(obj, frame_index, points, box)
            steps: tuple[Prompt, ...] = ()
            if earlier is not None:
                steps = (*earlier.earlier, replace(earlier, earlier=()))
            is_correction = is_correction or len(steps) > MAX_EARLIER
            prompt = Prompt(
                points=points,
                box=box,
                correction=is_correction,
                earlier=() if is_correction else steps,
            )
            self._store.append(change, [_mask_change(obj, frame_index, code, score)])
            change.objects[obj.object_id] = obj.with_prompt(frame_index, prompt)
            change.created = (obj.object_id,)
        return change.result

    def draw(
        self, frame_index: int, object_id: int | None, code: EncodedMask
    ) -> Change:
        """Set the mask of an object on a frame; it becomes the prompt of the frame.

        Args:
            frame_index: The frame.
            object_id: The object; None adds one.
            code: Mask of the size of the frame. An empty one says that the object is
                not in the frame.
        """
        obj = self._object_on(frame_index, object_id)
        code = self._checked_mask(code, frame_index)
        label = f'Draw {obj.name} on frame {frame_index}'
        with self._change_frame(label, obj, frame_index) as (change, editor):
            editor.draw(obj, frame_index, code)
            records = self._store.append(change, [_mask_change(obj, frame_index, code)])
            prompt = Prompt(mask=True, offset=records[0].offset)
            change.objects[obj.object_id] = obj.with_prompt(frame_index, prompt)
            change.created = (obj.object_id,)
        return change.result

    def clear_prompts(self, frame_index: int, object_id: int) -> Change:
        """Clear the prompts of an object on a frame.

        The mask stays if the frame was tracked; the next pass replaces it.
        """
        obj = self._object_on(frame_index, object_id)
        if frame_index not in obj.prompts:
            return Change()
        label = f'Clear {obj.name} on frame {frame_index}'
        with self._change_frame(label, obj, frame_index) as (change, editor):
            if not editor.clear(obj, frame_index):
                self._store.append(change, [_mask_change(obj, frame_index, None)])
            change.objects[object_id] = obj.with_prompt(frame_index, None)
            change.created = (object_id,)
        return change.result

    def delete_masks(self, object_id: int, start: int, stop: int) -> Change:
        """Delete masks and prompts of an object on frames ``[start, stop)``."""
        obj = self._unlocked(object_id)
        self._check_range(start, stop)
        if overlaps(obj.locked_frames, start, stop):
            msg = (
                f'{obj.name} is locked on some of {_frames(start, stop)}; unlock them '
                f'first'
            )
            raise ValueError(msg)
        frames = [f for f in self._offsets_of(object_id) if start <= f < stop]
        prompts = {f: p for f, p in obj.prompts.items() if not start <= f < stop}
        if not frames and len(prompts) == len(obj.prompts):
            return Change()
        label = f'Delete masks of {obj.name} on {_frames(start, stop)}'
        # The only frame with masks, where each image has its own objects.
        frame = start if self.video.kind == 'video' else self._still(obj) or 0
        with self._change_frame(label, obj, frame) as (change, editor):
            editor.erase(obj, [*frames, *obj.prompts.keys() - prompts.keys()])
            self._store.append(change, [_mask_change(obj, f, None) for f in frames])
            kept = MappingProxyType(prompts)
            change.objects[object_id] = replace(obj, prompts=kept)
        return change.result

    def add_masks(self, masks: Iterable[tuple[int, EncodedMask, str, str]]) -> Change:
        """Add an object for each mask: frame, mask, name and category.

        They are accepted proposals, or come from elsewhere.
        """
        given = list(masks)
        objects = self._new_objects((name, category) for *_, name, category in given)
        added = [
            (obj, {frame: self._checked_mask(code, frame)})
            for obj, (frame, code, _, _) in zip(objects, given, strict=True)
        ]
        return self._add_objects('Add', added, given[0][0] if given else None)

    def import_objects(self, objects: Iterable[ImportedMasks]) -> Change:
        """Add objects with their masks, from a file.

        Of each object up to eight masks, evenly spaced, become prompts.
        """
        given: list[tuple[ImportedMasks, Mapping[int, EncodedMask]]] = []
        for imported in objects:
            codes = {
                frame: self._checked_mask(code, frame)
                for frame, code in sorted(imported.masks.items())
            }
            parts = [codes] if codes else []
            if self.video.kind == 'images':  # each still has its own objects
                parts = [{frame: code} for frame, code in codes.items()]
            given += [(imported, part) for part in parts]
        new = self._new_objects((each.name, each.category) for each, _ in given)
        added = [
            (
                replace(obj, color=_checked_color(each.color)) if each.color else obj,
                codes,
            )
            for obj, (each, codes) in zip(new, given, strict=True)
        ]
        return self._add_objects('Import', added, None)

    def _add_objects(
        self,
        verb: str,
        added: Sequence[tuple[AnnotatedObject, Mapping[int, EncodedMask]]],
        frame: int | None,
    ) -> Change:
        if not added:
            return Change()
        label = f'{verb} {len(added)} {"object" if len(added) == 1 else "objects"}'
        with self._change_objects(label, frame) as change:
            for new, codes in added:
                obj = new
                changes = (_mask_change(obj, f, code) for f, code in codes.items())
                offsets: dict[int, int] = {}
                while chunk := list(islice(changes, IMPORTED_AT_ONCE)):
                    records = self._store.append(change, chunk)
                    offsets |= {record.frame_index: record.offset for record in records}
                for prompted in _spread(list(offsets)):
                    prompt = Prompt(mask=True, offset=offsets[prompted])
                    obj = obj.with_prompt(prompted, prompt)
                change.objects[obj.object_id] = obj
            change.created = tuple(change.objects)
        return change.result

    # Tracking ------------------------------------------------------------------------

    def propagate(
        self,
        object_ids: Sequence[int] | None,
        start: int,
        stop: int | None,
        direction: str,
    ) -> TrackingPass:
        """Track objects from a frame on.

        Args:
            object_ids: The objects; None for all that have a prompt and are not locked.
            start: First frame, which is tracked as well.
            stop: First frame that is not tracked any more; None tracks to the end of
                the video. Backwards, -1 and None track to frame 0. With 'both' the pass
                reaches as far backwards as forwards.
            direction: 'forward', 'backward', or 'both', forwards first.

        Returns:
            An iterator whose steps track one frame each.
        """
        self.video.check_frame(start)
        if direction not in DIRECTIONS:
            msg = f'direction is {direction!r}; give forward, backward or both'
            raise ValueError(msg)
        last, first = self.video.num_frames, -1  # neither is tracked
        if stop is not None:
            last = min(stop, last)
            first = max(2 * start - stop if direction == 'both' else stop, first)
        forwards, backwards = range(start, last), range(start, first, -1)
        legs = []
        if direction != 'backward':
            legs.append(_Leg(frames=forwards, reverse=False))
        if direction != 'forward':
            # The start was tracked forwards.
            frames = backwards[1:] if direction == 'both' else backwards
            legs.append(_Leg(frames=frames, reverse=True))
        if not any(len(leg.frames) for leg in legs):
            msg = (
                f'There is no frame to track {direction} from frame {start} to {stop}; '
                f'choose another range'
            )
            raise ValueError(msg)
        return self._pass('Track', object_ids, start, legs)

    def refine(self, object_ids: Sequence[int] | None, frame: int) -> TrackingPass:
        """Track both ways from a frame, for each object up to its locked frames."""
        self.video.check_frame(frame)
        legs = [
            _Leg(frames=range(frame, self.video.num_frames), reverse=False),
            _Leg(frames=range(frame - 1, -1, -1), reverse=True),
        ]
        return self._pass('Refine', object_ids, frame, legs)

    def _pass(
        self,
        verb: str,
        object_ids: Sequence[int] | None,
        start: int,
        legs: Sequence[_Leg],
    ) -> TrackingPass:
        if self.video.kind == 'images':
            msg = 'Independent images are not tracked; prompt objects on each of them'
            raise ValueError(msg)
        objects = self._objects_to_track(object_ids)
        num_frames = sum(
            max(_num_unlocked(obj, leg.frames, start) for obj in objects)
            for leg in legs
        )
        if not num_frames:
            msg = (
                f'{_names(objects)} cannot change next to frame {start}, which is '
                f'locked on both sides; unlock frames to track them'
            )
            raise ValueError(msg)
        label = f'{verb} {_names(objects)} from frame {start}'
        ids = tuple(obj.object_id for obj in objects)
        changes = self._track(ids, start, legs, label, self._num_ended)
        return TrackingPass(changes, label=label, object_ids=ids, num_frames=num_frames)

    def _objects_to_track(
        self, object_ids: Sequence[int] | None
    ) -> list[AnnotatedObject]:
        if object_ids is None:
            every = self.document.objects.values()
            objects = [obj for obj in every if obj.prompts and not obj.locked]
            if not objects:
                msg = (
                    'There is no object to track; prompt one on some frame, or unlock '
                    'it'
                )
                raise ValueError(msg)
            return objects
        objects = [self._unlocked(key) for key in dict.fromkeys(object_ids)]
        if not objects:
            msg = 'No object is given to track; select at least one'
            raise ValueError(msg)
        for obj in objects:
            if not obj.prompts:
                msg = f'{obj.name} has no prompt; prompt it on some frame first'
                raise ValueError(msg)
        return objects

    def _track(
        self,
        object_ids: Sequence[int],
        start: int,
        legs: Sequence[_Leg],
        label: str,
        num_ended: int,
    ) -> Generator[Change]:
        try:
            for leg in legs:
                running, begun = dict.fromkeys(object_ids), set[int]()
                for frame in leg.frames:
                    if self._num_ended != num_ended:
                        return
                    objects = []
                    for key in tuple(running):
                        obj = self.document.objects.get(key)
                        if obj is None or obj.locked or not obj.prompts:
                            del running[key]
                        elif not obj.is_locked(frame):
                            begun.add(key)
                            objects.append(obj)
                        elif key in begun or not obj.is_locked(start):
                            # A locked frame is a barrier, but for those around the
                            # start of the pass, which are passed over.
                            del running[key]
                    if not running:
                        break
                    if objects:
                        yield self._track_frame(
                            objects, frame, label, reverse=leg.reverse
                        )
        finally:
            self._store.end_pass()

    def _track_frame(
        self,
        objects: Sequence[AnnotatedObject],
        frame: int,
        label: str,
        *,
        reverse: bool,
    ) -> Change:
        tracked = [obj for obj in objects if frame not in obj.prompts]
        before = self._model_objects(objects)
        try:
            with (
                self._model.edit(frame) as editor,
                self._store.pass_frame(label, before) as change,
            ):
                masks = editor.track(objects, frame, reverse=reverse)
                changes = [
                    _mask_change(obj, frame, code, score)
                    for obj, (code, score) in zip(tracked, masks, strict=True)
                ]
                self._store.append(change, changes)
                change.after = self._model_objects(objects)
        except BrokenFrameError as error:
            if error.frame_index != frame:
                raise
            if frame not in self.document.broken_frames:
                with self._store.pass_frame(label, None) as change:
                    self._store.append_broken(change, frame)
            return Change(frame=frame, broken=(frame,), label=label)
        return Change(
            masks=tuple((obj.object_id, frame, frame + 1) for obj in tracked),
            frame=frame,
            label=label if tracked else '',
        )

    # Undo ----------------------------------------------------------------------------

    def undo(self) -> Change:
        """Revert the latest change; running passes end."""
        return self._step_history('undo')

    def redo(self) -> Change:
        """Repeat the change that was undone last; running passes end."""
        return self._step_history('redo')

    def _step_history(self, step: HistoryStep) -> Change:
        self._num_ended += 1
        entry, change, tracked = self._store.step_history(step)
        known = entry.before if step == 'undo' else entry.after
        if known is None:
            self._model.drop_objects(tracked)
        else:
            self._model.set_objects(known, entry.frame or 0)
        return change

    def use_predictor(self, predictor: SAM2VideoPredictor) -> None:
        """Go on with another model; masks stay, and running passes end."""
        self._num_ended += 1
        self._model.use_predictor(predictor)
        self._store.forget_kept_states()

    # Changes -------------------------------------------------------------------------

    @contextmanager
    def _change_objects(
        self, label: str, frame: int | None = None
    ) -> Iterator[PendingChange]:
        """Change what the model does not know, or not yet."""
        with self._store.change(label, frame, before={}, after={}) as change:
            yield change

    @contextmanager
    def _change_tracks(
        self,
        label: str,
        objects: Sequence[AnnotatedObject],
        frame: int | None = None,
    ) -> Iterator[PendingChange]:
        """Change objects as wholes: the model gets their prompts again."""
        ids = [obj.object_id for obj in objects]
        after = None if self.video.kind == 'images' else dict.fromkeys(ids)
        before = self._model_objects(objects)
        with self._store.change(label, frame, before=before, after=after) as change:
            yield change
        self._model.drop_objects(ids)

    @contextmanager
    def _change_frame(
        self, label: str, obj: AnnotatedObject, frame: int
    ) -> Iterator[tuple[PendingChange, FrameEditor]]:
        """Change an object on a frame, in the model as well."""
        ids = [obj.object_id]
        before = self._model.objects(ids, frame)
        with (
            self._model.edit(frame) as editor,
            self._store.change(label, frame, before=before) as change,
        ):
            yield change, editor
            change.after = self._model.objects(ids, frame)

    def _model_objects(self, objects: Sequence[AnnotatedObject]) -> ModelObjects | None:
        """What the model knows about objects; None where they are on several stills."""
        if self.video.kind == 'images':
            return None
        return self._model.objects([obj.object_id for obj in objects], 0)

    def _offsets_of(self, object_id: int) -> dict[int, int]:
        """Where the masks of an object are, by frame."""
        index = self._store.index
        frames = index.frames(object_id).tolist()
        return {frame: index.offset(object_id, frame) for frame in frames}

    def _write_snapshot(self) -> None:
        video = self.video.identity.to_json()
        self._store.write_snapshot({'name': self.name, 'video': video})

    # Checks --------------------------------------------------------------------------

    def _new_object(self, name: str, category: str) -> AnnotatedObject:
        """Make an object that is not in the document yet."""
        return self._new_objects([(name, category)])[0]

    def _new_objects(self, named: Iterable[tuple[str, str]]) -> list[AnnotatedObject]:
        """Make an object for each name and category."""
        used = {obj.color for obj in self.document.objects.values()}
        objects = []
        for object_id, (name, given) in enumerate(named, start=self._store.next_id):
            category = _checked_category(given)
            obj = AnnotatedObject(
                object_id=object_id,
                name=_checked_name(name or f'{category or "Object"} {object_id}'),
                category=category,
                color=choose_color(object_id, used),
            )
            used.add(obj.color)
            objects.append(obj)
        return objects

    def _object_on(self, frame_index: int, object_id: int | None) -> AnnotatedObject:
        """Find an object whose mask on a frame may change; None is a new one."""
        self.video.check_frame(frame_index)
        if object_id is None:
            return self._new_object('', '')
        obj = self._unlocked(object_id)
        self._check_unlocked(obj, frame_index)
        still = self._still(obj) if self.video.kind == 'images' else None
        if still is not None and still != frame_index:
            msg = (
                f'{obj.name} is on image {self.video.frame_name(still)}; add another '
                f'object to this one'
            )
            raise ValueError(msg)
        return obj

    def _unlocked(self, object_id: int) -> AnnotatedObject:
        obj = self.document.get_object(object_id)
        if obj.locked:
            raise _locked(obj)
        return obj

    def _check_unlocked(self, obj: AnnotatedObject, frame_index: int) -> None:
        if obj.is_locked(frame_index):
            msg = f'{obj.name} is locked on frame {frame_index}; unlock the frame first'
            raise ValueError(msg)

    def _still(self, obj: AnnotatedObject) -> int | None:
        """Image of an object, None before it has a mask."""
        frames = [*obj.prompts, *self._offsets_of(obj.object_id)]
        return frames[0] if frames else None

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start < stop <= self.video.num_frames:
            msg = (
                f'{start} to {stop} is no range of frames; give 0 <= start < stop <= '
                f'{self.video.num_frames}'
            )
            raise ValueError(msg)

    def _checked_mask(self, code: EncodedMask, frame_index: int) -> EncodedMask:
        """Check a mask from outside."""
        self.video.check_frame(frame_index)
        size = self.video.size(frame_index)
        if tuple(code['size']) != size:
            msg = (
                f'The mask has {tuple(code["size"])} pixels (height, width), but frame '
                f'{frame_index} has {size}; give a mask of the size of the frame'
            )
            raise ValueError(msg)
        try:
            count_encoded_pixels(code)
        except UnicodeError as error:
            msg = f'The mask of frame {frame_index} is no run-length code ({error})'
            raise ValueError(msg) from error
        return code


def _find_video(data: Mapping[str, Any], path: Path | None) -> AnnotatedVideo:
    """Open the video of a session, where it was or at a new path."""
    old = Path(data['path'])
    if path is None and not old.exists():
        msg = (
            f'The video {old} is missing; move it back, or give its new path '
            f'(video_path)'
        )
        raise ValueError(msg)
    video = AnnotatedVideo(path or old, kind=data['kind'])
    identity = video.identity.to_json()
    for key in ('num_frames', 'num_bytes', 'content_hash'):
        if identity[key] != data[key]:
            what = (
                'has changed since it was annotated' if path is None else 'is another'
            )
            msg = (
                f'{video.path} {what}: its {key} is {identity[key]}, that of the '
                f'session {data[key]}; give the video that was annotated ({old})'
            )
            raise ValueError(msg)
    return video


def _checked_name(name: str) -> str:
    name = ' '.join(name.split())
    if not name or len(name) > MAX_NAME:
        msg = f'A name has 1 to {MAX_NAME} characters, not {len(name)}; give another'
        raise ValueError(msg)
    return name


def _checked_category(category: str) -> str:
    category = ' '.join(category.split())
    if len(category) > MAX_NAME:
        msg = f'A class has up to {MAX_NAME} characters, not {len(category)}'
        raise ValueError(msg)
    return category


def _checked_color(color: str) -> str:
    if not COLOR.fullmatch(color.lower()):
        msg = f'color is {color!r}; give #rrggbb, such as #1f77b4'
        raise ValueError(msg)
    return color.lower()


def _locked(obj: AnnotatedObject) -> ValueError:
    return ValueError(f'{obj.name} is locked; unlock it first')


def _mask_change(
    obj: AnnotatedObject,
    frame: int,
    mask: EncodedMask | int | None,
    score: int = UNKNOWN_SCORE,
) -> MaskChange:
    return MaskChange(
        object_id=obj.object_id, frame_index=frame, mask=mask, score=score
    )


def _part(
    obj: AnnotatedObject,
    target: AnnotatedObject,
    frames: tuple[int, int],
    nearest: int,
    offsets: Mapping[int, int],
) -> AnnotatedObject:
    """Give an object the prompts and locks that another has on some frames.

    Args:
        frames: Start and stop.
        nearest: The frame whose mask is a prompt if there is none: an object without
            a prompt could not be tracked again.
        offsets: Where the masks are.
    """
    start, stop = frames
    prompts = {f: p for f, p in obj.prompts.items() if start <= f < stop}
    if not prompts:
        prompts = {nearest: Prompt(mask=True, offset=offsets[nearest])}
    locked = tuple(
        (max(first, start), min(last, stop))
        for first, last in obj.locked_frames
        if first < stop and start < last
    )
    return replace(target, prompts=MappingProxyType(prompts), locked_frames=locked)


def _names(objects: Sequence[AnnotatedObject]) -> str:
    return objects[0].name if len(objects) == 1 else f'{len(objects)} objects'


def _frames(start: int, stop: int) -> str:
    return f'frame {start}' if stop == start + 1 else f'frames {start} to {stop - 1}'


def _describe_prompt(
    earlier: Prompt | None, points: Sequence[Point], box: Box | None
) -> str:
    """Say in words what the user did."""
    before = Prompt() if earlier is None else earlier
    if box != before.box:
        return 'Remove box of' if box is None else 'Box'
    if len(points) < len(before.points):
        return 'Remove point of'
    if len(points) == len(before.points):
        return 'Move point of'
    return 'Click on'


def _spread(frames: Sequence[int]) -> list[int]:
    """Select up to ``MAX_MASK_PROMPTS`` frames, evenly spaced, with both ends."""
    if len(frames) <= MAX_MASK_PROMPTS:
        return list(frames)
    positions = np.linspace(0, len(frames) - 1, MAX_MASK_PROMPTS).round().astype(int)
    return [frames[position] for position in positions]


def _num_unlocked(obj: AnnotatedObject, frames: range, start: int) -> int:
    """Number of frames that a pass tracks until the first locked one."""
    passes_over, count = obj.is_locked(start), 0
    for frame in frames:
        if not obj.is_locked(frame):
            count += 1
        elif count or not passes_over:
            break
    return count
