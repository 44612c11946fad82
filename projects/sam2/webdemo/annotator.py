"""One open session: objects, their masks, tracking, undo.

::

    command ─▶ ModelStates.edit ─▶ MaskLog.append ─▶ Journal.append ─▶ valid:
               (VideoState)        (masks.bin)       (journal.jsonl)   index, document

A command that fails before the end leaves everything as it was: the model within its
edit, the files by truncation. What is valid changes last, and cannot fail.
"""

import re
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from ..apis import SAM2VideoPredictor
from ..ops import EncodedMask, decode_masks, encode_masks
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
from .mask_log import (
    NO_MASK,
    NO_SCORE,
    MaskChange,
    MaskIndex,
    MaskRecord,
    RecordKind,
)
from .model_states import ModelObjects, ModelStates, memory_bytes
from .session_folder import SNAPSHOT, SessionFolder
from .video import AnnotatedVideo, BrokenFrameError

MAX_NAME = 200  # characters
MAX_EARLIER = 32  # prompts of a frame that are given again one by one
MAX_MASK_PROMPTS = 8  # of an imported object; each is attended to by every frame
MAX_UNDO = 1000  # changes in a snapshot
MAX_SNAPSHOTS, MAX_SNAPSHOT_BYTES = 20, 256 << 20  # model states kept for undo
SNAPSHOT_JOURNAL_BYTES, SNAPSHOT_MASK_BYTES = 1 << 20, 1 << 27
SMALLEST_CHANGE = 16  # bytes that any change adds to the files, at least
IMPORTED_AT_ONCE = 4096  # masks
DIRECTIONS = ('forward', 'backward', 'both')
COLOR = re.compile('#[0-9a-f]{6}')
ChangedObjects = Mapping[int, AnnotatedObject | None]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a command changed.

    Attributes:
        objects: Objects whose properties or prompts changed, or that were deleted.
        masks: Object, start and stop of the ranges of frames whose masks may have
            changed.
        frame: The frame whose masks should be shown at once.
        label: Name of the undo entry; '' where there is nothing to undo.
        created: New objects; the object that was prompted, if it existed before.
        broken: Frames that turned out to be unreadable.
    """

    objects: frozenset[int] = frozenset()
    masks: tuple[tuple[int, int, int], ...] = ()
    frame: int | None = None
    label: str = ''
    created: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()


class ImportedMasks(Protocol):
    """An object from a file."""

    @property
    def name(self) -> str:
        """Its name, or ''."""

    @property
    def category(self) -> str:
        """Its class, or ''."""

    @property
    def masks(self) -> Mapping[int, EncodedMask]:
        """Its masks by frame."""


@dataclass(slots=True, kw_only=True)
class UndoEntry:
    """A change that can be undone; what it changed is in the files.

    Attributes:
        label: For the user.
        position: Of its line in the journal.
        start: Of its records in the mask log.
        stop: End of its records.
        frame: The frame that it is about, or None.
        before: What the model knew about its objects before, None if it is not kept.
        after: What the model knew afterwards; likewise.
    """

    label: str
    position: int
    start: int
    stop: int
    frame: int | None = None
    before: ModelObjects | None = None
    after: ModelObjects | None = None

    def to_json(self) -> list[Any]:
        """Convert what is in the files to JSON."""
        return [self.label, self.position, self.start, self.stop, self.frame]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> 'UndoEntry':
        """Read what :meth:`to_json` returned."""
        label, position, start, stop, frame = data
        return cls(label=label, position=position, start=start, stop=stop, frame=frame)


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
        self.document = Document()
        self.recovered = files.was_killed
        self._files = files
        self._index = MaskIndex(video.num_frames)
        self._lock = threading.Lock()  # of index and document together
        self._entries: list[UndoEntry] = []
        self._undone: list[UndoEntry] = []
        self._next_id = 1
        self._snapshot_sizes = (0, 0)
        self._position = 0  # of the latest line
        self._pass_entry: UndoEntry | None = None  # of the running pass
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
            annotator._restore(data)
            annotator._write_snapshot()
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
        self._end_passes()
        try:
            self._write_snapshot()
        except OSError:
            self._files.close(cleanly=False)
            raise
        self._files.close(cleanly=True)

    # Reading -------------------------------------------------------------------------

    @property
    def can_undo(self) -> str | None:
        """Label of the change that :meth:`undo` reverts."""
        return self._entries[-1].label if self._entries else None

    @property
    def can_redo(self) -> str | None:
        """Label of the change that :meth:`redo` repeats."""
        return self._undone[-1].label if self._undone else None

    def masks(self, frame_index: int) -> list[FrameMask]:
        """Masks of all objects on a frame, in the order of the objects.

        Raises:
            ValueError: If there is no such frame.
        """
        self.video.check_frame(frame_index)
        return self._read_masks(frame_index, None)

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
        scores = self._index.scores.get(object_id)
        if scores is None:
            return np.full(self.video.num_frames, NO_SCORE, np.uint8)
        return scores.copy()

    def _read_masks(self, frame_index: int, object_id: int | None) -> list[FrameMask]:
        with self._lock:
            ids = list(self.document.objects) if object_id is None else [object_id]
            entries = [
                (key, offset, self._index.score(key, frame_index))
                for key in ids
                if (offset := self._index.offset(key, frame_index)) != NO_MASK
            ]
        return [
            FrameMask(
                object_id=key,
                code=self._files.masks.read(offset),
                score=score / 100 if score <= 100 else float('nan'),
            )
            for key, offset, score in entries
        ]

    def _saved_mask(self, object_id: int, frame_index: int) -> EncodedMask | None:
        """Look up a mask of which a memory can be made."""
        offset = self._index.offset(object_id, frame_index)
        if offset == NO_MASK or frame_index in self._index.broken_frames:
            return None
        return self._files.masks.read(offset)

    # Objects -------------------------------------------------------------------------

    def add_object(self, name: str = '', category: str = '') -> Change:
        """Add an object without prompts."""
        obj = self._new_object(name, category)
        return self._edit_objects(
            f'Add {obj.name}', {obj.object_id: obj}, created=(obj.object_id,)
        )

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
        return self._edit_objects(
            f'{verb} {obj.name}', {object_id: replace(obj, **changes)}
        )

    def delete_objects(self, object_ids: Sequence[int]) -> Change:
        """Delete objects and their masks."""
        objects = [self._unlocked(key) for key in dict.fromkeys(object_ids)]
        if not objects:
            return Change()
        label = f'Delete {_names(objects)}'
        before = self._model_objects(objects)
        deleted = dict.fromkeys((obj.object_id for obj in objects), None)
        with self._transaction() as start:
            self._journal(label, start, deleted)
        change = self._make_valid(label, start, [], deleted, model=(before, deleted))
        self._model.drop_objects(deleted)
        return change

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
        before = self._model_objects(members)
        with self._transaction() as start:
            records = self._files.masks.append(changes, self._index)
            offsets = {record.frame_index: record.offset for record in records}
            merged = target
            prompted = {frame for obj in members for frame in obj.prompts}
            if not prompted and self._index.frames(into).size + len(offsets):
                prompted = {min([*offsets, *self._index.frames(into).tolist()])}
            for frame in sorted(prompted):
                if frame not in changed and frame in target.prompts:
                    continue
                offset = offsets.get(frame, self._index.offset(into, frame))
                if offset != NO_MASK:
                    prompt = Prompt(mask=True, offset=offset)
                    merged = merged.with_prompt(frame, prompt)
            objects: dict[int, AnnotatedObject | None] = {into: merged}
            objects.update(dict.fromkeys((obj.object_id for obj in others), None))
            self._journal(label, start, objects)
        change = self._make_valid(
            label,
            start,
            records,
            objects,
            created=(into,),
            model=(before, self._no_objects(objects)),
        )
        self._model.drop_objects(objects)
        return change

    def _merged_masks(
        self, target: AnnotatedObject, others: Sequence[AnnotatedObject]
    ) -> list[MaskChange]:
        index, into = self._index, target.object_id
        frames = {int(frame) for obj in others for frame in index.frames(obj.object_id)}
        changes = []
        for frame in sorted(frames):
            having = [
                key
                for key in (into, *(obj.object_id for obj in others))
                if index.offset(key, frame) != NO_MASK
            ]
            score = max(index.score(key, frame) for key in having)
            mask: EncodedMask | int = index.offset(having[0], frame)
            if len(having) > 1:
                codes = [
                    self._files.masks.read(index.offset(key, frame)) for key in having
                ]
                union = decode_masks(codes).any(axis=0, keepdims=True)
                mask = encode_masks(np.asarray(union))[0]
            change = MaskChange(
                object_id=into, frame_index=frame, mask=mask, score=score
            )
            changes.append(change)
        return changes

    def split_object(self, object_id: int, frame_index: int) -> Change:
        """Make the masks of an object from a frame on those of a new object."""
        self.video.check_frame(frame_index)
        obj = self._unlocked(object_id)
        frames = self._index.frames(object_id).tolist()
        first, later = (
            [frame for frame in frames if frame < frame_index],
            [frame for frame in frames if frame >= frame_index],
        )
        if not first or not later:
            side = 'before' if not first else 'from'
            msg = (
                f'{obj.name} has no mask {side} frame {frame_index}; split it at a '
                f'frame between its masks'
            )
            raise ValueError(msg)
        new = self._new_object(f'{obj.name} 2'[:MAX_NAME], obj.category)
        offset_of = {frame: self._index.offset(object_id, frame) for frame in frames}
        changes = []
        for frame in later:
            score = self._index.score(object_id, frame)
            changes += [
                MaskChange(
                    object_id=new.object_id,
                    frame_index=frame,
                    mask=offset_of[frame],
                    score=score,
                ),
                MaskChange(object_id=object_id, frame_index=frame, mask=None),
            ]
        parts = []
        for part, frames_of, (start, stop), at in (
            (obj, first, (0, frame_index), first[-1]),
            (new, later, (frame_index, self.video.num_frames), later[0]),
        ):
            prompts = {f: p for f, p in obj.prompts.items() if f in set(frames_of)}
            if not prompts:  # a part without a prompt could not be tracked again
                prompts = {at: Prompt(mask=True, offset=offset_of[at])}
            locked = remove_range(obj.locked_frames, 0, start)
            locked = remove_range(locked, stop, self.video.num_frames)
            parts.append(
                replace(part, prompts=MappingProxyType(prompts), locked_frames=locked)
            )
        label = f'Split {obj.name} at frame {frame_index}'
        before = self._model_objects([obj, new])
        objects = {part.object_id: part for part in parts}
        with self._transaction() as start:
            records = self._files.masks.append(changes, self._index)
            self._journal(label, start, objects)
        change = self._make_valid(
            label,
            start,
            records,
            objects,
            frame=frame_index,
            created=(new.object_id,),
            model=(before, self._no_objects(objects)),
        )
        self._model.drop_objects(objects)
        return change

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
        return self._edit_objects(
            label, {object_id: replace(obj, locked_frames=ranges)}
        )

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
        before = self._model_objects([obj], frame_index)
        with self._model.edit(frame_index) as editor, self._transaction() as start:
            (code, score), is_correction = editor.prompt(obj, frame_index, points, box)
            steps: tuple[Prompt, ...] = ()
            if earlier is not None:
                steps = (*earlier.earlier, replace(earlier, earlier=()))
            prompt = Prompt(
                points=points,
                box=box,
                correction=is_correction or len(steps) > MAX_EARLIER,
                earlier=() if is_correction or len(steps) > MAX_EARLIER else steps,
            )
            change = MaskChange(
                object_id=obj.object_id,
                frame_index=frame_index,
                mask=code,
                score=score,
            )
            records = self._files.masks.append([change], self._index)
            objects = {obj.object_id: obj.with_prompt(frame_index, prompt)}
            self._journal(label, start, objects, frame_index)
            after = self._model.objects(objects, frame_index)
        return self._make_valid(
            label,
            start,
            records,
            objects,
            frame=frame_index,
            created=(obj.object_id,),
            model=(before, after),
        )

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
        before = self._model_objects([obj], frame_index)
        key = obj.object_id
        with self._model.edit(frame_index) as editor, self._transaction() as start:
            editor.draw(obj, frame_index, code)
            change = MaskChange(object_id=key, frame_index=frame_index, mask=code)
            records = self._files.masks.append([change], self._index)
            prompt = Prompt(mask=True, offset=records[0].offset)
            objects = {key: obj.with_prompt(frame_index, prompt)}
            self._journal(label, start, objects, frame_index)
            after = self._model.objects(objects, frame_index)
        return self._make_valid(
            label,
            start,
            records,
            objects,
            frame=frame_index,
            created=(key,),
            model=(before, after),
        )

    def clear_prompts(self, frame_index: int, object_id: int) -> Change:
        """Clear the prompts of an object on a frame.

        The mask stays if the frame was tracked; the next pass replaces it.
        """
        obj = self._object_on(frame_index, object_id)
        if frame_index not in obj.prompts:
            return Change()
        label = f'Clear {obj.name} on frame {frame_index}'
        before = self._model_objects([obj], frame_index)
        cleared = obj.with_prompt(frame_index, None)
        with self._model.edit(frame_index) as editor, self._transaction() as start:
            has_mask = editor.clear(obj, frame_index)
            changes = [
                MaskChange(object_id=object_id, frame_index=frame_index, mask=None)
            ]
            records = self._files.masks.append([] if has_mask else changes, self._index)
            objects = {object_id: cleared}
            self._journal(label, start, objects, frame_index)
            after = self._model.objects(objects, frame_index)
        return self._make_valid(
            label,
            start,
            records,
            objects,
            frame=frame_index,
            created=(object_id,),
            model=(before, after),
        )

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
        frames = [
            f for f in self._index.frames(object_id).tolist() if start <= f < stop
        ]
        prompts = {f: p for f, p in obj.prompts.items() if not start <= f < stop}
        if not frames and len(prompts) == len(obj.prompts):
            return Change()
        label = f'Delete masks of {obj.name} on {_frames(start, stop)}'
        changed = replace(obj, prompts=MappingProxyType(prompts))
        home = start
        if self.video.kind == 'images':
            home = frames[0] if frames else next(iter(obj.prompts))
        before = self._model_objects([obj], home)
        changes = [
            MaskChange(object_id=object_id, frame_index=frame, mask=None)
            for frame in frames
        ]
        with self._model.edit(home) as editor, self._transaction() as begin:
            editor.erase(obj, [*frames, *obj.prompts.keys() - prompts.keys()])
            records = self._files.masks.append(changes, self._index)
            self._journal(label, begin, {object_id: changed}, home)
            after = self._model.objects([object_id], home)
        return self._make_valid(
            label,
            begin,
            records,
            {object_id: changed},
            frame=home,
            model=(before, after),
        )

    def add_masks(self, masks: Iterable[tuple[int, EncodedMask, str, str]]) -> Change:
        """Add an object for each mask: frame, mask, name and category.

        They are accepted proposals, or come from elsewhere.
        """
        added = [
            (name, category, {frame: self._checked_mask(code, frame)})
            for frame, code, name, category in masks
        ]
        frame = next((f for _, _, codes in added for f in codes), None)
        noun = 'object' if len(added) == 1 else 'objects'
        return self._add_objects(f'Add {len(added)} {noun}', added, frame)

    def import_objects(self, objects: Iterable[ImportedMasks]) -> Change:
        """Add objects with their masks, from a file.

        Of each object up to eight masks, evenly spaced, become prompts.
        """
        added = []
        for obj in objects:
            codes = {
                frame: self._checked_mask(code, frame)
                for frame, code in sorted(obj.masks.items())
            }
            if self.video.kind == 'images':  # each still has its own objects
                added += [
                    (obj.name, obj.category, {frame: code})
                    for frame, code in codes.items()
                ]
            elif codes:
                added.append((obj.name, obj.category, codes))
        noun = 'object' if len(added) == 1 else 'objects'
        return self._add_objects(f'Import {len(added)} {noun}', added, None)

    def _add_objects(
        self,
        label: str,
        added: Sequence[tuple[str, str, Mapping[int, EncodedMask]]],
        frame: int | None,
    ) -> Change:
        if not added:
            return Change()
        objects: dict[int, AnnotatedObject | None] = {}
        records: list[MaskRecord] = []
        with self._transaction() as start:
            for name, category, codes in added:
                obj = self._new_object(name, category, [*objects.values()])
                key = obj.object_id
                changes = iter(
                    MaskChange(object_id=key, frame_index=f, mask=code)
                    for f, code in codes.items()
                )
                offsets: dict[int, int] = {}
                while chunk := list(islice(changes, IMPORTED_AT_ONCE)):
                    new = self._files.masks.append(chunk, self._index)
                    offsets |= {record.frame_index: record.offset for record in new}
                    records += new
                for prompted in _spread(list(offsets)):
                    prompt = Prompt(mask=True, offset=offsets[prompted])
                    obj = obj.with_prompt(prompted, prompt)
                objects[key] = obj
            self._journal(label, start, objects, frame)
        return self._make_valid(
            label,
            start,
            records,
            objects,
            frame=frame,
            created=tuple(objects),
            model=({}, {}),
        )

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
        last = self.video.num_frames
        if direction not in DIRECTIONS:
            msg = f'direction is {direction!r}; give forward, backward or both'
            raise ValueError(msg)
        forwards = range(start, last if stop is None else min(stop, last))
        far = -1 if stop is None else max(stop, -1)
        if direction == 'both':
            far = -1 if stop is None else max(2 * start - stop, -1)
        backwards = range(start, far, -1)
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
                            del running[key]  # the barrier
                    if not running:
                        break
                    if objects:
                        yield self._track_frame(
                            objects, frame, label, reverse=leg.reverse
                        )
        finally:
            self._finish_pass(label)

    def _track_frame(
        self,
        objects: Sequence[AnnotatedObject],
        frame: int,
        label: str,
        *,
        reverse: bool,
    ) -> Change:
        ids = [obj.object_id for obj in objects if frame not in obj.prompts]
        try:
            before = self._model_objects(objects)
            with self._model.edit(frame) as editor, self._transaction() as start:
                masks = editor.track(objects, frame, reverse=reverse)
                changes = [
                    MaskChange(object_id=key, frame_index=frame, mask=code, score=score)
                    for key, (code, score) in zip(ids, masks, strict=True)
                ]
                entry = self._pass_entry or self._begin_pass(label, start, before)
                records = self._files.masks.append(changes, self._index)
                after = self._model_objects(objects)
        except BrokenFrameError as error:
            if error.frame_index != frame:
                raise
            return self._mark_broken(frame, label)
        with self._lock:
            self._index.apply(records)
            self.document = replace(self.document, revision=self.document.revision + 1)
        self._extend_pass(entry, before, after)
        return Change(
            masks=tuple((key, frame, frame + 1) for key in ids),
            frame=frame,
            label=label,
        )

    def _begin_pass(
        self, label: str, start: int, before: ModelObjects | None
    ) -> UndoEntry:
        """Write the line of a pass; its records are all up to the next line."""
        position = self._files.journal.append(
            {'label': label, 'pass': True, 'start': start, 'frame': None}
        )
        return UndoEntry(
            label=label, position=position, start=start, stop=start, before=before
        )

    def _extend_pass(
        self,
        entry: UndoEntry,
        before: ModelObjects | None,
        after: ModelObjects | None,
    ) -> None:
        if entry is not self._pass_entry:
            self._pass_entry = entry
            self._push(entry)
        # An object may be tracked by a later leg alone.
        entry.before = {**(before or {}), **(entry.before or {})}
        entry.after = {**(entry.after or {}), **(after or {})}
        entry.stop = self._files.masks.size

    def _mark_broken(self, frame: int, label: str) -> Change:
        """Note that a frame cannot be read; the pass goes on after it."""
        if frame in self._index.broken_frames:
            return Change(frame=frame, broken=(frame,), label=label)
        with self._transaction() as start:
            entry = self._pass_entry or self._begin_pass(label, start, {})
            record = self._files.masks.append_broken(frame)
        with self._lock:
            self._index.apply([record])
            self.document = replace(
                self.document,
                broken_frames=tuple(sorted(self._index.broken_frames)),
                revision=self.document.revision + 1,
            )
        self._extend_pass(entry, {}, {})
        return Change(frame=frame, broken=(frame,), label=label)

    def _finish_pass(self, label: str) -> None:
        entry = self._pass_entry
        if entry is not None and entry.label == label:
            self._pass_entry = None
            self._limit_snapshots()
            with suppress(OSError):  # the pass is complete without this line
                self._files.journal.append(
                    {'end': entry.position, 'start': self._files.masks.size}
                )
                self._files.sync()
            self._maybe_snapshot()

    def _end_passes(self) -> None:
        self._num_ended += 1
        self._pass_entry = None

    # Undo ----------------------------------------------------------------------------

    def undo(self) -> Change:
        """Revert the latest change; running passes end."""
        if not self._entries:
            msg = 'There is nothing to undo'
            raise ValueError(msg)
        self._end_passes()
        return self._travel(self._entries, self._undone, 'undo')

    def redo(self) -> Change:
        """Repeat the change that was undone last; running passes end."""
        if not self._undone:
            msg = 'There is nothing to redo'
            raise ValueError(msg)
        self._end_passes()
        return self._travel(self._undone, self._entries, 'redo')

    def _travel(
        self,
        source: list[UndoEntry],
        target: list[UndoEntry],
        word: Literal['undo', 'redo'],
    ) -> Change:
        entry = source[-1]
        line = self._files.journal.read(entry.position)
        records = list(self._files.masks.scan(entry.start, entry.stop))
        with self._transaction() as start:
            self._files.journal.append({word: entry.position, 'start': start})
        source.pop()
        target.append(entry)
        prompts = {key: obj.prompts for key, obj in self.document.objects.items()}
        objects = self._move(line, records, word)
        model = entry.before if word == 'undo' else entry.after
        if model is None:
            changed = {record.object_id for record in records}
            changed |= {
                key
                for key, obj in objects.items()
                if obj is None or obj.prompts != prompts.get(key)
            }
            self._model.drop_objects(changed)
        else:
            self._model.set_objects(model, entry.frame or 0)
        return Change(
            objects=frozenset(objects),
            masks=_changed_ranges(records),
            frame=entry.frame,
            label=entry.label,
        )

    def _move(
        self, line: Mapping[str, Any], records: Sequence[MaskRecord], word: str
    ) -> ChangedObjects:
        """Make one side of a change valid."""
        side = 'before' if word == 'undo' else 'after'
        objects = _objects_from_json(line.get(side, {}))
        with self._lock:
            if word == 'undo':
                self._index.revert(records)
            else:
                self._index.apply(records)
            document = self.document.with_objects(objects)
            self.document = replace(
                document,
                broken_frames=tuple(sorted(self._index.broken_frames)),
                revision=document.revision + 1,
            )
            self._next_id = max(self._next_id, *(key + 1 for key in objects), 1)
        return objects

    def _limit_snapshots(self) -> None:
        """Keep the model states of the latest changes, as long as they are small."""
        seen: set[int] = set()
        num_bytes = 0
        pairs = zip_longest(reversed(self._entries), reversed(self._undone))
        entries = [entry for pair in pairs for entry in pair if entry is not None]
        for position, entry in enumerate(entries):
            states = [*(entry.before or {}).values(), *(entry.after or {}).values()]
            if position < MAX_SNAPSHOTS and num_bytes <= MAX_SNAPSHOT_BYTES:
                num_bytes += sum(memory_bytes(o, seen) for o in states if o is not None)
            if position >= MAX_SNAPSHOTS or num_bytes > MAX_SNAPSHOT_BYTES:
                entry.before = entry.after = None

    # Writing -------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """Write to the files, all or nothing.

        Yields:
            Size of the mask log before.
        """
        files = self._files
        sizes = files.masks.size, files.journal.size
        try:
            yield files.masks.size
            files.masks.sync()
            files.journal.sync()
        except BaseException:
            files.masks.truncate(sizes[0])
            files.journal.truncate(sizes[1])
            raise

    def _journal(
        self,
        label: str,
        start: int,
        objects: ChangedObjects,
        frame: int | None = None,
    ) -> None:
        """Write the line of a change whose records begin at ``start``."""
        before = {key: self.document.objects.get(key) for key in objects}
        self._position = self._files.journal.append(
            {
                'label': label,
                'frame': frame,
                'start': start,
                'stop': self._files.masks.size,
                'before': _objects_to_json(before),
                'after': _objects_to_json(objects),
            }
        )

    def _make_valid(
        self,
        label: str,
        start: int,
        records: Sequence[MaskRecord],
        objects: ChangedObjects,
        *,
        model: tuple[ModelObjects | None, ModelObjects | None],
        frame: int | None = None,
        created: tuple[int, ...] = (),
    ) -> Change:
        """Make a change valid that the files have."""
        with self._lock:
            self._index.apply(records)
            document = self.document.with_objects(objects)
            self.document = replace(document, revision=document.revision + 1)
            self._next_id = max([self._next_id, *(key + 1 for key in objects)])
        self._pass_entry = None  # a running pass goes on as another entry
        entry = UndoEntry(
            label=label,
            position=self._position,
            start=start,
            stop=self._files.masks.size,
            frame=frame,
            before=model[0],
            after=model[1],
        )
        self._push(entry)
        self._limit_snapshots()
        self._maybe_snapshot()
        return Change(
            objects=frozenset(objects),
            masks=_changed_ranges(records),
            frame=frame,
            label=label,
            created=created,
        )

    def _push(self, entry: UndoEntry) -> None:
        self._entries.append(entry)
        self._undone.clear()

    def _edit_objects(
        self, label: str, objects: ChangedObjects, created: tuple[int, ...] = ()
    ) -> Change:
        """Change objects, but neither prompts nor masks."""
        with self._transaction() as start:
            self._journal(label, start, objects)
        return self._make_valid(
            label, start, [], objects, created=created, model=({}, {})
        )

    def _write_snapshot(self) -> None:
        self._pass_entry = None  # what a running pass does next needs a line of its own
        document = replace(
            self.document, broken_frames=tuple(sorted(self._index.broken_frames))
        )
        data = {
            'name': self.name,
            'video': self.video.identity.to_json(),
            'document': document.to_json(with_history=True),
            'next_id': self._next_id,
            'undo': [entry.to_json() for entry in self._entries[-MAX_UNDO:]],
            'redo': [entry.to_json() for entry in self._undone[-MAX_UNDO:]],
        }
        self._files.write_snapshot(data, self._index)
        self._snapshot_sizes = self._files.journal.size, self._files.masks.size

    def _maybe_snapshot(self) -> None:
        """Write a snapshot where opening the session would have to read much."""
        journal, masks = self._snapshot_sizes
        files = self._files
        if (
            files.journal.size - journal > SNAPSHOT_JOURNAL_BYTES
            or files.masks.size - masks > SNAPSHOT_MASK_BYTES
        ):
            with suppress(OSError):  # the journal has everything
                self._write_snapshot()

    def _restore(self, data: Mapping[str, Any]) -> None:
        """Read a snapshot, and repeat the changes in the journal after it."""
        files = self._files
        journal_size, masks_size = data['journal_size'], data['masks_size']
        if files.journal.size < journal_size or files.masks.size < masks_size:
            msg = (
                f'{files.path} lacks the end of its files; restore the whole folder '
                f'from a copy'
            )
            raise ValueError(msg)
        self.document = Document.from_json(data['document'])
        self._index = files.read_index(data['index'], self.video.num_frames)
        self._index.broken_frames = set(self.document.broken_frames)
        self._next_id = data['next_id']
        self._entries = [UndoEntry.from_json(entry) for entry in data['undo']]
        self._undone = [UndoEntry.from_json(entry) for entry in data['redo']]
        num_bytes = files.journal.size - journal_size + files.masks.size - masks_size
        files.masks.drop_torn_tail(masks_size)
        lines = list(files.journal.scan(journal_size))
        for number, (position, end, line) in enumerate(lines):
            start = line['start']
            stop = line.get('stop', start)
            if line.get('pass'):
                is_last = number == len(lines) - 1
                stop = files.masks.size if is_last else lines[number + 1][2]['start']
            if stop > files.masks.size:  # the computer lost power
                break
            self._replay(position, start, stop, line)
            journal_size, masks_size = end, stop
        files.journal.truncate(journal_size)
        files.masks.truncate(masks_size)
        # Above that of any page that was open before.
        revision = self.document.revision + num_bytes // SMALLEST_CHANGE + 1
        self.document = replace(self.document, revision=revision)

    def _replay(
        self, position: int, start: int, stop: int, line: Mapping[str, Any]
    ) -> None:
        files = self._files
        if 'end' in line:
            return
        if 'undo' in line or 'redo' in line:
            word = 'undo' if 'undo' in line else 'redo'
            source, target = self._entries, self._undone
            if word == 'redo':
                source, target = target, source
            entry = source.pop()
            target.append(entry)
            records = list(files.masks.scan(entry.start, entry.stop))
            self._move(files.journal.read(entry.position), records, word)
            return
        records = list(files.masks.scan(start, stop))
        if line.get('pass') and not records:
            return
        self._move(line, records, 'redo')
        entry = UndoEntry(
            label=line['label'],
            position=position,
            start=start,
            stop=stop,
            frame=line['frame'],
        )
        self._push(entry)

    # The model -----------------------------------------------------------------------

    def use_predictor(self, predictor: SAM2VideoPredictor) -> None:
        """Go on with another model; masks stay, and running passes end."""
        self._end_passes()
        self._model.use_predictor(predictor)
        for entry in (*self._entries, *self._undone):
            entry.before = entry.after = None

    def _model_objects(
        self, objects: Sequence[AnnotatedObject], frame_index: int | None = None
    ) -> ModelObjects | None:
        """What the model knows about objects; None where they are on several stills."""
        if frame_index is None and self.video.kind == 'images':
            return None
        ids = [obj.object_id for obj in objects]
        return self._model.objects(ids, frame_index or 0)

    def _no_objects(self, object_ids: Iterable[int]) -> ModelObjects | None:
        return None if self.video.kind == 'images' else dict.fromkeys(object_ids)

    # Checks --------------------------------------------------------------------------

    def _new_object(
        self,
        name: str,
        category: str,
        others: Sequence[AnnotatedObject | None] = (),
    ) -> AnnotatedObject:
        """Make an object that is not in the document yet, nor are the others."""
        added = [obj for obj in others if obj is not None]
        object_id = max([self._next_id, *(obj.object_id + 1 for obj in added)])
        category = _checked_category(category)
        return AnnotatedObject(
            object_id=object_id,
            name=_checked_name(name or f'{category or "Object"} {object_id}'),
            category=category,
            color=choose_color(object_id, [*self.document.objects.values(), *added]),
        )

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
        frames = [*obj.prompts, *self._index.frames(obj.object_id).tolist()]
        return frames[0] if frames else None

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start < stop <= self.video.num_frames:
            msg = (
                f'{start} to {stop} is no range of frames; give 0 <= start < stop <= '
                f'{self.video.num_frames}'
            )
            raise ValueError(msg)

    def _checked_mask(self, code: EncodedMask, frame_index: int) -> EncodedMask:
        """Check a mask from outside, and encode it as the mask log does."""
        self.video.check_frame(frame_index)
        size = self.video.size(frame_index)
        if tuple(code['size']) != size:
            msg = (
                f'The mask has {tuple(code["size"])} pixels (height, width), but frame '
                f'{frame_index} has {size}; give a mask of the size of the frame'
            )
            raise ValueError(msg)
        try:
            return encode_masks(decode_masks([code]))[0]
        except (UnicodeError, TypeError) as error:
            msg = f'The mask of frame {frame_index} is no run-length code ({error})'
            raise ValueError(msg) from error


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


def _changed_ranges(records: Sequence[MaskRecord]) -> tuple[tuple[int, int, int], ...]:
    """First and last frame of each object in records, as ranges."""
    frames: dict[int, tuple[int, int]] = {}
    for record in records:
        if record.kind is not RecordKind.BROKEN:
            frame = record.frame_index
            first, stop = frames.get(record.object_id, (frame, frame + 1))
            frames[record.object_id] = min(first, frame), max(stop, frame + 1)
    return tuple((key, *frames[key]) for key in sorted(frames))


def _objects_to_json(objects: ChangedObjects) -> dict[str, Any]:
    return {
        str(key): None if obj is None else obj.to_json(with_history=True)
        for key, obj in objects.items()
    }


def _objects_from_json(
    data: Mapping[str, Any],
) -> dict[int, AnnotatedObject | None]:
    return {
        int(key): None if obj is None else AnnotatedObject.from_json(obj)
        for key, obj in data.items()
    }
