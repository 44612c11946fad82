"""What is valid in a session: objects, masks and the undo stack, in RAM and on disk.

::

    change ──▶ MaskLog.append ──▶ Journal.append ──▶ valid: index, document, undo stack
               (masks.bin)        (journal.jsonl)

A change that fails before the end is cut off both files. What is valid changes last,
and cannot fail. The model has no part in this (:mod:`.model_states`).
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Literal

from .document import AnnotatedObject, Document
from .folder import SessionFolder
from .mask_log import (
    NO_MASK,
    MaskChange,
    MaskIndex,
    MaskRecord,
    RecordKind,
)
from .model_states import ModelObjects, memory_bytes

MAX_UNDO = 1000  # changes in a snapshot
MAX_KEPT_STATES, MAX_KEPT_BYTES = 20, 256 << 20  # states of the model, for undo
SNAPSHOT_JOURNAL_BYTES, SNAPSHOT_MASK_BYTES = 1 << 20, 1 << 27
SMALLEST_CHANGE = 16  # bytes that any change adds to the files, at least
ChangedObjects = Mapping[int, AnnotatedObject | None]
HistoryStep = Literal['undo', 'redo']


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
class PendingChange:
    """A change that is being written.

    Attributes:
        label: Name of the undo entry.
        frame: The frame that it is about, or None.
        start: Size of the mask log before.
        objects: Objects after the change; None deletes one.
        created: See :class:`Change`.
        before: See :class:`UndoEntry`.
        after: Likewise.
        records: What was appended to the mask log.
        result: What was changed, once it is valid.
    """

    label: str
    frame: int | None
    start: int
    objects: dict[int, AnnotatedObject | None] = field(default_factory=dict)
    created: tuple[int, ...] = ()
    before: ModelObjects | None = None
    after: ModelObjects | None = None
    records: list[MaskRecord] = field(default_factory=list)
    result: Change = Change()


class SessionStore:
    """The valid state of a session.

    One thread changes it; any thread reads it.

    Args:
        files: The open folder.
        num_frames: Frames of the video.

    Attributes:
        document: The objects.
        index: Where their masks are.
        entries: Changes that can be undone, the latest last.
        undone: Changes that can be repeated, the next one last.
        next_id: Id of the next new object.
    """

    def __init__(self, files: SessionFolder, num_frames: int) -> None:
        self.files = files
        self.document = Document()
        self.index = MaskIndex(num_frames)
        self.entries: list[UndoEntry] = []
        self.undone: list[UndoEntry] = []
        self.next_id = 1
        self._lock = threading.Lock()  # of index and document together
        self._properties: Mapping[str, Any] = {}  # of the latest snapshot
        self._snapshot_sizes = (0, 0)
        self._pass_entry: UndoEntry | None = None  # of the running pass
        self._pass_before: ModelObjects = {}

    def offsets(
        self, frame_index: int, object_id: int | None = None
    ) -> list[tuple[int, int, int]]:
        """List the masks of a frame: object, offset in the mask log, and score."""
        with self._lock:
            ids = list(self.document.objects) if object_id is None else [object_id]
            return [
                (key, offset, self.index.score(key, frame_index))
                for key in ids
                if (offset := self.index.offset(key, frame_index)) != NO_MASK
            ]

    # Changes -------------------------------------------------------------------------

    @contextmanager
    def change(
        self,
        label: str,
        frame: int | None = None,
        *,
        before: ModelObjects | None = None,
        after: ModelObjects | None = None,
    ) -> Iterator[PendingChange]:
        """Make a change: write it to the disk, then make it valid, or do neither.

        The block sets the objects of the change and appends its masks.

        Raises:
            OSError: If the disk is full; everything is as it was.
        """
        pending = PendingChange(
            label=label,
            frame=frame,
            start=self.files.masks.size,
            before=before,
            after=after,
        )
        with self._transaction():
            yield pending
            objects = pending.objects
            old = {key: self.document.objects.get(key) for key in objects}
            position = self.files.journal.append(
                {
                    'label': label,
                    'frame': frame,
                    'start': pending.start,
                    'stop': self.files.masks.size,
                    'before': _objects_to_json(old),
                    'after': _objects_to_json(objects),
                }
            )
        self._commit(pending.records, objects)
        self._close_pass()  # a running one goes on as another entry
        entry = UndoEntry(
            label=label,
            position=position,
            start=pending.start,
            stop=self.files.masks.size,
            frame=frame,
            before=pending.before,
            after=pending.after,
        )
        self._push(entry)
        self._limit_kept_states()
        self._maybe_write_snapshot()
        pending.result = Change(
            objects=frozenset(objects),
            masks=changed_ranges(pending.records),
            frame=frame,
            label=label,
            created=pending.created,
        )

    def append(
        self, pending: PendingChange, changes: Sequence[MaskChange]
    ) -> list[MaskRecord]:
        """Append masks to the mask log, as part of a change.

        Returns:
            Their records.
        """
        records = self.files.masks.append(changes, self.index)
        pending.records += records
        return records

    @contextmanager
    def pass_frame(
        self, label: str, before: ModelObjects | None
    ) -> Iterator[PendingChange]:
        """Make the masks of a frame of a pass valid; see :meth:`change`.

        All frames are one entry, up to :meth:`end_pass` or another change. Its line is
        written with the first masks: killed at any time, the pass has its frames. A
        pass without a new mask is no entry.
        """
        files = self.files
        pending = PendingChange(label=label, frame=None, start=files.masks.size)
        entry = self._pass_entry
        with self._transaction():
            yield pending
            if entry is None and pending.records:
                line = {'label': label, 'pass': True, 'start': pending.start}
                position = files.journal.append({**line, 'frame': None})
                entry = UndoEntry(
                    label=label,
                    position=position,
                    start=pending.start,
                    stop=pending.start,
                )
        self._commit(pending.records, {})
        # From before the first frame, and some objects join the pass later.
        self._pass_before = {**(before or {}), **self._pass_before}
        if entry is None:
            return
        if entry is not self._pass_entry:
            self._pass_entry = entry
            self._push(entry)
        entry.before = self._pass_before
        entry.after = {**(entry.after or {}), **(pending.after or {})}
        entry.stop = files.masks.size

    def append_broken(self, pending: PendingChange, frame_index: int) -> None:
        """Note that a frame cannot be read, as part of a pass."""
        pending.records.append(self.files.masks.append_broken(frame_index))

    def end_pass(self) -> None:
        """End the entry of the running pass, if it has one."""
        entry = self._pass_entry
        self._close_pass()
        if entry is None:
            return
        self._limit_kept_states()
        with suppress(OSError):  # the pass is complete without this line
            line = {'end': entry.position, 'start': self.files.masks.size}
            self.files.journal.append(line)
            self.files.sync()
        self._maybe_write_snapshot()

    def step_history(self, step: HistoryStep) -> tuple[UndoEntry, Change, set[int]]:
        """Undo the latest change, or repeat the one that was undone last.

        Returns:
            Its entry, what changed, and the objects whose masks or prompts changed.

        Raises:
            ValueError: If there is none.
        """
        self._close_pass()
        source = self.entries if step == 'undo' else self.undone
        if not source:
            msg = f'There is nothing to {step}'
            raise ValueError(msg)
        entry = source[-1]
        objects, records = self._read(entry, step)
        with self._transaction():
            line = {step: entry.position, 'start': self.files.masks.size}
            self.files.journal.append(line)
        prompts = {key: obj.prompts for key, obj in self.document.objects.items()}
        self._step_history(step, objects, records)
        change = Change(
            objects=frozenset(objects),
            masks=changed_ranges(records),
            frame=entry.frame,
            label=entry.label,
        )
        tracked = {record.object_id for record in records}
        tracked |= {
            key
            for key, obj in objects.items()
            if obj is None or obj.prompts != prompts.get(key)
        }
        return entry, change, tracked

    def _close_pass(self) -> None:
        self._pass_entry, self._pass_before = None, {}

    def forget_kept_states(self) -> None:
        """Forget what another model knew."""
        for entry in (*self.entries, *self.undone):
            entry.before = entry.after = None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Write to the files, all or nothing."""
        files = self.files
        sizes = files.masks.size, files.journal.size
        try:
            yield
            files.masks.sync()
            files.journal.sync()
        except BaseException:
            files.masks.truncate(sizes[0])
            files.journal.truncate(sizes[1])
            raise

    def _commit(
        self,
        records: Sequence[MaskRecord],
        objects: ChangedObjects,
        step: HistoryStep = 'redo',
    ) -> None:
        """Make a change valid that is in the files."""
        with self._lock:
            if step == 'undo':
                self.index.revert(records)
            else:
                self.index.apply(records)
            document = self.document.with_objects(objects) if objects else self.document
            broken = document.broken_frames
            if len(broken) != len(self.index.broken_frames):
                broken = tuple(sorted(self.index.broken_frames))
            self.document = replace(
                document, broken_frames=broken, revision=document.revision + 1
            )
            self.next_id = max([self.next_id, *(key + 1 for key in objects)])

    def _read(
        self, entry: UndoEntry, step: HistoryStep
    ) -> tuple[ChangedObjects, list[MaskRecord]]:
        """Read one side of a change from the files."""
        line = self.files.journal.read(entry.position)
        side = 'before' if step == 'undo' else 'after'
        records = list(self.files.masks.scan(entry.start, entry.stop))
        return _objects_from_json(line.get(side, {})), records

    def _step_history(
        self, step: HistoryStep, objects: ChangedObjects, records: Sequence[MaskRecord]
    ) -> None:
        self._commit(records, objects, step)
        if step == 'undo':
            self.undone.append(self.entries.pop())
        else:
            self.entries.append(self.undone.pop())

    def _push(self, entry: UndoEntry) -> None:
        self.entries.append(entry)
        self.undone.clear()

    def _limit_kept_states(self) -> None:
        """Keep what the model knew at the latest changes, as long as it is small."""
        seen: set[int] = set()
        num_bytes = 0
        pairs = zip_longest(reversed(self.entries), reversed(self.undone))
        entries = [entry for pair in pairs for entry in pair if entry is not None]
        for position, entry in enumerate(entries):
            if position < MAX_KEPT_STATES and num_bytes <= MAX_KEPT_BYTES:
                states = (entry.before or {}, entry.after or {})
                num_bytes += sum(
                    memory_bytes(obj, seen)
                    for objects in states
                    for obj in objects.values()
                    if obj is not None
                )
            if position >= MAX_KEPT_STATES or num_bytes > MAX_KEPT_BYTES:
                entry.before = entry.after = None

    # Snapshots -----------------------------------------------------------------------

    def write_snapshot(self, properties: Mapping[str, Any]) -> None:
        """Write the whole state, so that the journal before need not be read again.

        Args:
            properties: Of the session: its name and its video.

        Raises:
            OSError: If the disk is full; the session is whole without it.
        """
        self._close_pass()  # what a running one does next needs a line of its own
        self._properties = properties
        data = {
            **properties,
            'document': self.document.to_json(with_history=True),
            'next_id': self.next_id,
            'undo': [entry.to_json() for entry in self.entries[-MAX_UNDO:]],
            'redo': [entry.to_json() for entry in self.undone[-MAX_UNDO:]],
        }
        self.files.write_snapshot(data, self.index)
        self._snapshot_sizes = self.files.journal.size, self.files.masks.size

    def _maybe_write_snapshot(self) -> None:
        """Write a snapshot where opening the session would have to read much."""
        journal, masks = self._snapshot_sizes
        files = self.files
        if (
            files.journal.size - journal > SNAPSHOT_JOURNAL_BYTES
            or files.masks.size - masks > SNAPSHOT_MASK_BYTES
        ):
            with suppress(OSError):  # the journal has everything
                self.write_snapshot(self._properties)

    def restore(self, data: Mapping[str, Any]) -> None:
        """Read a snapshot, replay the journal after it, and drop torn ends.

        Raises:
            ValueError: If the files end before the snapshot.
        """
        files = self.files
        journal_size, masks_size = data['journal_size'], data['masks_size']
        if files.journal.size < journal_size or files.masks.size < masks_size:
            msg = (
                f'{files.path} lacks the end of its files; restore the whole folder '
                f'from a copy'
            )
            raise ValueError(msg)
        self.document = Document.from_json(data['document'])
        self.index = files.read_index(data['index'], self.index.num_frames)
        self.index.broken_frames = set(self.document.broken_frames)
        self.next_id = data['next_id']
        self.entries = [UndoEntry.from_json(entry) for entry in data['undo']]
        self.undone = [UndoEntry.from_json(entry) for entry in data['redo']]
        num_bytes = files.journal.size - journal_size + files.masks.size - masks_size
        files.masks.drop_torn_tail(masks_size)
        lines = list(files.journal.scan(journal_size))
        for number, (position, end, line) in enumerate(lines):
            stop = line.get('stop', line['start'])
            if line.get('pass'):
                is_last = number == len(lines) - 1
                stop = files.masks.size if is_last else lines[number + 1][2]['start']
            if stop > files.masks.size:  # the computer lost power
                break
            self._replay(position, stop, line)
            journal_size, masks_size = end, stop
        files.journal.truncate(journal_size)
        files.masks.truncate(masks_size)
        # Above that of any page that was open before.
        revision = self.document.revision + num_bytes // SMALLEST_CHANGE + 1
        self.document = replace(self.document, revision=revision)

    def _replay(self, position: int, stop: int, line: Mapping[str, Any]) -> None:
        """Replay the change of a line in the journal."""
        if 'end' in line:
            return
        if 'undo' in line or 'redo' in line:
            step: HistoryStep = 'undo' if 'undo' in line else 'redo'
            entry = self.entries[-1] if step == 'undo' else self.undone[-1]
            self._step_history(step, *self._read(entry, step))
            return
        records = list(self.files.masks.scan(line['start'], stop))
        if line.get('pass') and not records:
            return
        self._commit(records, _objects_from_json(line.get('after', {})))
        entry = UndoEntry(
            label=line['label'],
            position=position,
            start=line['start'],
            stop=stop,
            frame=line['frame'],
        )
        self._push(entry)


def changed_ranges(records: Sequence[MaskRecord]) -> tuple[tuple[int, int, int], ...]:
    """Object, first frame and stop of the masks that records change."""
    ranges: dict[int, tuple[int, int]] = {}
    for record in records:
        if record.kind is not RecordKind.BROKEN:
            frame = record.frame_index
            start, stop = ranges.get(record.object_id, (frame, frame + 1))
            ranges[record.object_id] = min(start, frame), max(stop, frame + 1)
    return tuple((key, *ranges[key]) for key in sorted(ranges))


def _objects_to_json(objects: ChangedObjects) -> dict[str, Any]:
    return {
        str(key): None if obj is None else obj.to_json(with_history=True)
        for key, obj in objects.items()
    }


def _objects_from_json(data: Mapping[str, Any]) -> ChangedObjects:
    return {
        int(key): None if obj is None else AnnotatedObject.from_json(obj)
        for key, obj in data.items()
    }
