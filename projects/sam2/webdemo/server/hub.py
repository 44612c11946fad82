"""Open sessions and the tabs that show them.

A command of a tab runs in the model's thread (or, if it only reads, at once); what it
changed goes to all tabs of the session. Control messages are never lost: what a slow
tab has not been told yet is merged, and built from the document when it is sent. Masks
that are pushed may be lost; the page asks for them again.
"""

import asyncio
import logging
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from starlette.websockets import WebSocket

from ...bridges.detection.detector import Detector
from ..models import ModelStore
from ..proposals import Proposal, propose_masks, propose_text
from ..session.annotator import Annotator, Change, FrameMask, TrackingPass
from ..session.document import Document
from ..session.folder import (
    SessionInfo,
    SessionInUseError,
    delete_session_folder,
    list_sessions,
    new_session_folder,
)
from ..session.video import AnnotatedVideo, Kind
from . import protocol
from .protocol import PackedMask, finite_or_none, pack_masks, pack_scores
from .security import RequestError, describe_error
from .worker import EndState, ModelWorker, PassHandle

logger = logging.getLogger(__name__)

MAX_PUSHES = 64  # frames of masks that wait for a tab
MAX_BACKLOG = 64 * 2**20  # bytes of control messages; then the tab has to start anew
TEXT_BYTES = 256  # that a control message of text counts for, roughly its size
MAX_RANGES = 64  # of changed masks that wait for a tab; then they are merged
MAX_REPLIES = 256  # of each client
MAX_CLIENTS = 64  # of each session
MAX_PROPOSED_FRAMES = 8  # whose proposals a session keeps
MAX_OPEN = 64  # sessions in memory
PROGRESS_SECONDS = 0.1  # between two messages about a running pass
DISK_FULL = 507  # status of an error
TRY_AGAIN_LATER = 1013  # code of a closed WebSocket
UNKNOWN_SESSION = 4404

# Which server answers: one that was started anew knows no earlier replies.
SERVER = uuid.uuid4().hex

Message = dict[str, Any]


def describe_pass(
    tracking: TrackingPass, state: str, message: str | None = None
) -> Message:
    """The message about a pass."""
    described = {
        'type': 'pass',
        'state': state,
        'label': tracking.label,
        'objects': tracking.object_ids,
        'frame': tracking.frame,
        'done': tracking.num_done,
        'total': tracking.num_frames,
    }
    return described if message is None else described | {'message': message}


class News(NamedTuple):
    """What a change was, noted in the model's thread right after it.

    Attributes:
        change: The change.
        revision: Of the document after it. Masks of an older revision are outdated on
            the frames that changed, those of a newer one are not.
        packed: The masks of its frame, as a message.
    """

    change: Change
    revision: int
    packed: bytes | None


# Tabs --------------------------------------------------------------------------------


class Tab:
    """A page that is connected to a session, and what waits to be sent to it."""

    def __init__(self, websocket: WebSocket, session: 'OpenSession') -> None:
        self.session = session
        self._websocket = websocket
        self._control: deque[Message | bytes] = deque()
        self._control_bytes = 0
        self._pushes: OrderedDict[int, bytes] = OrderedDict()
        self._progress: Message | None = None
        self._objects: set[int] = set()
        self._masks: list[tuple[int, int, int]] = []
        self._revision = 0
        self._has_changed = False
        self._wake = asyncio.Event()
        self._close: tuple[int, str] | None = None  # code and reason
        self._hello: Message | None = None
        self._is_held = False

    def hold(self) -> None:
        """Keep everything back until :meth:`greet`.

        The tab is told of changes from now on, while its greeting is being written:
        none is missed, and none comes before the greeting.
        """
        self._is_held = True

    def greet(self, hello: Message) -> None:
        """Send the greeting, and then what was kept back."""
        self._hello, self._is_held = hello, False
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """End the connection; what waits is not sent any more."""
        if self._close is None:
            self._close = code, reason
        self._control.clear()
        self._wake.set()

    def tell(self, message: Message | bytes) -> None:
        """Send a message that must not be lost."""
        if self._close is not None:  # sending may hang; nothing may pile up meanwhile
            return
        self._control.append(message)
        self._control_bytes += size_of(message)
        if self._control_bytes > MAX_BACKLOG:
            self.close(TRY_AGAIN_LATER, 'The page is too slow; it has to connect again')
        self._wake.set()

    def tell_progress(self, message: Message) -> None:
        """Send the progress of a pass; an older message that waits is replaced."""
        self._progress = message
        self._wake.set()

    def tell_end_of_pass(self, message: Message) -> None:
        """Send how a pass has ended, instead of earlier progress that waits."""
        self._progress = None
        self.tell(message)

    def tell_change(self, news: News) -> None:
        """Send what changed, together with earlier changes that still wait."""
        self._objects |= news.change.objects
        self._masks += news.change.masks
        self._revision = news.revision
        if len(self._masks) > MAX_RANGES:
            self._masks = merge_ranges(self._masks)
        self._has_changed = True
        self._wake.set()

    def push(self, frame: int, packed: bytes) -> None:
        """Send the masks of a frame, unless the tab falls behind."""
        self._pushes.pop(frame, None)
        self._pushes[frame] = packed
        if len(self._pushes) > MAX_PUSHES:
            self._pushes.popitem(last=False)
        self._wake.set()

    async def send_all(self) -> None:
        """Send what waits, until the connection ends."""
        while self._close is None:
            await self._wake.wait()
            self._wake.clear()
            while self._close is None and (message := self._next()) is not None:
                if isinstance(message, bytes):
                    await self._websocket.send_bytes(message)
                else:
                    await self._websocket.send_json(message)
        await self._websocket.close(*self._close)

    def _next(self) -> Message | bytes | None:
        if self._is_held:
            return None
        if self._hello is not None:
            hello, self._hello = self._hello, None
            return hello
        if self._has_changed:
            return self._take_change()
        if self._control:
            message = self._control.popleft()
            self._control_bytes -= size_of(message)
            return message
        if self._progress is not None:
            progress, self._progress = self._progress, None
            return progress
        if self._pushes:
            return self._pushes.popitem(last=False)[1]
        return None

    def _take_change(self) -> Message:
        """Build the message from the document as it is now."""
        message = self.session.describe_change(
            self._objects, merge_ranges(self._masks), self._revision
        )
        self._objects, self._masks, self._has_changed = set(), [], False
        return message


def size_of(message: Message | bytes) -> int:
    """Bytes that a control message counts for."""
    return len(message) if isinstance(message, bytes) else TEXT_BYTES


def merge_ranges(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join ranges ``(object, start, stop)`` that overlap or touch."""
    merged: list[tuple[int, int, int]] = []
    for number, start, stop in sorted(ranges):
        if merged and merged[-1][0] == number and start <= merged[-1][2]:
            merged[-1] = (number, merged[-1][1], max(stop, merged[-1][2]))
        else:
            merged.append((number, start, stop))
    return merged


# Sessions ----------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class OpenSession:
    """A session in memory.

    Attributes:
        annotator: Its objects and masks; mutated in the model's thread only.
        tabs: Pages that show it.
        handle: Its running pass; set in the model's thread only.
        tracking: The same, as the annotator sees it.
        told: When the tabs were told about it, in seconds.
        proposals: Proposed masks, by frame.
        replies: What each client was answered, by its request: a command that is sent
            again after a network cut acts once.
        used: When it was used last.
        uses: A token for each request and job that uses it now; a set, since jobs run
            in threads.
    """

    annotator: Annotator
    tabs: set[Tab] = field(default_factory=set)
    handle: PassHandle | None = None
    tracking: TrackingPass | None = None
    told: float = 0.0
    proposals: OrderedDict[int, list[Proposal]] = field(default_factory=OrderedDict)
    replies: 'OrderedDict[str, OrderedDict[int, asyncio.Future[Message]]]' = field(
        default_factory=OrderedDict
    )
    used: float = field(default_factory=time.monotonic)
    uses: set[object] = field(default_factory=set)

    @property
    def is_used(self) -> bool:
        """Whether a page, a pass, a request or a job needs it."""
        return bool(self.tabs or self.handle or self.uses)

    def describe_change(
        self, objects: set[int], masks: list[tuple[int, int, int]], revision: int
    ) -> Message:
        """What changed up to a revision, as the document is now."""
        annotator = self.annotator
        document = annotator.document
        return {
            'type': 'changed',
            'objects': {
                str(number): document.objects[number].to_json()
                if number in document.objects
                else None
                for number in sorted(objects)
            },
            'order': list(document.objects),
            'categories': document.categories,
            'broken_frames': document.broken_frames,
            'revision': revision,
            'undo': annotator.can_undo,
            'redo': annotator.can_redo,
            'masks': masks,
        }

    def describe(self, model: str) -> Message:
        """The message that answers a page's hello."""
        annotator, video = self.annotator, self.annotator.video
        tracking = self.tracking
        is_stills = video.kind == 'images'
        sizes = [known_size(video, i) for i in range(video.num_frames * is_stills or 1)]
        session: Message = {
            'id': annotator.session_id,
            'name': annotator.name,
            'kind': video.kind,
            'key': video.key,
            'num_frames': video.num_frames,
            'frames_per_second': video.frames_per_second,
            'sizes': sizes if len(set(sizes)) > 1 else sizes[:1],
            'model': model,
        }
        if video.path.is_dir():
            session['frame_names'] = [
                video.frame_name(index) for index in range(video.num_frames)
            ]
        return {
            'type': 'hello',
            'server': SERVER,
            'session': session,
            'document': annotator.document.to_json(),
            'undo': annotator.can_undo,
            'redo': annotator.can_redo,
            'pass': None if tracking is None else describe_pass(tracking, 'running'),
            'recovered': annotator.recovered,
        }

    def pack_frame(self, frame: int) -> bytes:
        """The masks of all objects on a frame, as a message."""
        annotator = self.annotator
        document = annotator.document
        entries = []
        for item in annotator.masks(frame):
            obj = document.objects.get(item.object_id)
            if obj is None:  # deleted since the document was read
                continue
            flags = protocol.PROMPTED * (frame in obj.prompts)
            flags |= protocol.LOCKED * obj.is_locked(frame)
            entries.append(PackedMask(item.object_id, item.score, flags, item.code))
        size = known_size(annotator.video, frame)
        return pack_masks(protocol.MASKS, frame, size, entries, document.revision)

    def note(self, change: Change) -> News:
        """Note what a change was, in the model's thread right after it."""
        packed = None
        if change.frame is not None and self.tabs:
            packed = self.pack_frame(change.frame)
        return News(change, self.annotator.document.revision, packed)

    def publish(self, news: News) -> None:
        """Tell all tabs what changed."""
        frame = news.change.frame
        for tab in self.tabs:
            tab.tell_change(news)
            if frame is not None and news.packed is not None:
                tab.push(frame, news.packed)
        for frame in news.change.broken:
            message = f'Frame {frame} cannot be read; it is marked, and was skipped'
            self.notify('warning', message)

    def notify(self, level: str, message: str) -> None:
        """Show a message on all tabs."""
        for tab in self.tabs:
            tab.tell({'type': 'notice', 'level': level, 'message': message})

    # Passes

    def stop_pass(self) -> None:
        """End the running pass; in the model's thread, hence between two frames."""
        if self.handle is not None:
            self.handle.stop()

    def advance(self, news: News) -> None:
        """Tell the tabs about a frame of the running pass."""
        self.used = time.monotonic()
        self.publish(news)
        if self.used - self.told >= PROGRESS_SECONDS:
            self.tell_progress()

    def tell_progress(self) -> None:
        """Tell the tabs how far the pass is."""
        self.told = time.monotonic()
        tracking = self.tracking
        if tracking is not None:
            for tab in self.tabs:
                tab.tell_progress(describe_pass(tracking, 'running'))

    def end_pass(
        self, tracking: TrackingPass, state: EndState, error: BaseException | None
    ) -> None:
        """Tell the tabs that a pass has ended."""
        problem = None if error is None else describe_error(error)
        message = None if problem is None else problem.message
        for tab in self.tabs:
            tab.tell_end_of_pass(describe_pass(tracking, state, message))
        if problem is not None and problem.status == DISK_FULL:
            self.notify('error', problem.message)

    def replies_of(self, client: str) -> 'OrderedDict[int, asyncio.Future[Message]]':
        """Replies to a client, which becomes the one seen last."""
        replies = self.replies.setdefault(client, OrderedDict())
        self.replies.move_to_end(client)
        while len(self.replies) > MAX_CLIENTS:
            self.replies.popitem(last=False)
        return replies


def known_size(video: AnnotatedVideo, frame: int) -> tuple[int, int]:
    """Height and width of a frame; zero for an image that cannot be read."""
    try:
        return video.size(frame)
    except ValueError:
        return 0, 0


class SessionView:
    """A session as a job reads it: with a reader of its own.

    Attributes:
        video: The video; frames that are shown meanwhile come from another reader.
    """

    def __init__(self, annotator: Annotator) -> None:
        self._annotator = annotator
        self.video = annotator.video.reopen()

    @property
    def document(self) -> Document:
        """All objects, as they are now."""
        return self._annotator.document

    def masks(self, frame_index: int) -> list[FrameMask]:
        """The masks of a frame."""
        return self._annotator.masks(frame_index)

    def mask(self, object_id: int, frame_index: int) -> FrameMask | None:
        """The mask of an object on a frame."""
        return self._annotator.mask(object_id, frame_index)


class Hub:
    """All sessions of the server.

    All methods are called from the event loop.

    Args:
        folder: Where the sessions are.
        worker: The thread of the model.
        models: The model that tracks, and others.
        forget_frames: Called with the video of a session that was closed, unless
            another open session shows the same one.
        text_detector: Finds what a text names.
    """

    def __init__(
        self,
        folder: Path,
        worker: ModelWorker,
        models: ModelStore,
        forget_frames: Callable[[AnnotatedVideo], None],
        text_detector: Detector | None = None,
    ) -> None:
        self.folder = folder
        self.worker = worker
        self.models = models
        self.text_detector = text_detector
        self._forget_frames = forget_frames
        self.sessions: dict[str, OpenSession] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    # Life of sessions

    async def list_sessions(self) -> list[SessionInfo]:
        """List all sessions, the latest first."""
        infos = await asyncio.to_thread(list_sessions, self.folder)
        # What is in memory may be newer than the last snapshot.
        return [
            replace(info, num_objects=len(found.annotator.document.objects))
            if (found := self.sessions.get(info.session_id))
            else info
            for info in infos
        ]

    async def find(self, session_id: str) -> SessionInfo:
        """Describe a session without opening it.

        Raises:
            RequestError: If there is no such session.
        """
        for info in await self.list_sessions():
            if info.session_id == session_id:
                return info
        msg = f'There is no session {session_id[:40]!r}; choose one of the list'
        raise RequestError(404, msg)

    async def create(self, source: Path, kind: Kind | None, name: str | None) -> str:
        """Make a session of a video; return its id."""
        await self._make_room()
        video = await asyncio.to_thread(AnnotatedVideo, source, kind)
        folder = await asyncio.to_thread(new_session_folder, self.folder)

        def create() -> Annotator:
            return Annotator.create(
                folder, video, self.models.predictor, name=name or video.name
            )

        annotator = await self.worker.call(create)
        self.sessions[annotator.session_id] = OpenSession(annotator=annotator)
        return annotator.session_id

    async def get(self, session_id: str) -> OpenSession:
        """Return a session, which is opened if it is not in memory.

        Raises:
            RequestError: If there is no such session, or its video is missing.
        """
        async with self._lock_of(session_id):
            if session_id not in self.sessions:
                await self._make_room()
                await self.find(session_id)

                def reopen() -> Annotator:
                    folder = self.folder / session_id
                    return Annotator.open(folder, self.models.predictor)

                annotator = await self.worker.call(reopen)
                self.sessions[session_id] = OpenSession(annotator=annotator)
            session = self.sessions[session_id]
            session.used = time.monotonic()
        return session

    async def _make_room(self) -> None:
        """Close the session that was not used for the longest time, if all are open.

        Raises:
            RequestError: If all are in use.
        """
        if len(self.sessions) < MAX_OPEN:
            return
        idle = [s for s in self.sessions.values() if not s.is_used]
        if not idle:
            msg = f'{MAX_OPEN} sessions are in use; close the pages of some'
            raise RequestError(429, msg)
        oldest = min(idle, key=lambda session: session.used)
        await self.close_session(oldest.annotator.session_id)

    async def close_session(self, session_id: str) -> None:
        """Remove a session from memory; its folder stays."""
        async with self._lock_of(session_id):
            await self._close(session_id)

    async def _close(
        self, session_id: str, code: int = TRY_AGAIN_LATER, reason: str = ''
    ) -> None:
        """Close a session and its tabs; its lock is held."""
        session = self.sessions.pop(session_id, None)
        if session is None:
            return
        for tab in session.tabs:
            tab.close(code, reason)

        def close() -> None:
            session.stop_pass()
            session.annotator.close()

        try:
            await self.worker.call(close)
        finally:
            video = session.annotator.video
            others = self.sessions.values()
            if not any(other.annotator.video.key == video.key for other in others):
                self._forget_frames(video)

    async def relocate(self, session_id: str, path: Path) -> None:
        """Open a session whose video was moved to another path."""
        await self.find(session_id)
        async with self._lock_of(session_id):
            reason = 'The video was moved; the page connects again'
            await self._close(session_id, TRY_AGAIN_LATER, reason)
            annotator = await self.worker.call(
                lambda: Annotator.open(
                    self.folder / session_id, self.models.predictor, video_path=path
                )
            )
            self.sessions[session_id] = OpenSession(annotator=annotator)

    async def delete(self, session_id: str) -> Path:
        """Delete a session with its folder; return the path of its video."""
        info = await self.find(session_id)
        async with self._lock_of(session_id):
            await self._close(session_id, UNKNOWN_SESSION, 'The session was deleted')
            try:
                await asyncio.to_thread(delete_session_folder, self.folder / session_id)
            except SessionInUseError as error:  # in another server
                raise RequestError(409, str(error)) from error
        return Path(info.source)

    def _lock_of(self, session_id: str) -> asyncio.Lock:
        return self._locks.setdefault(session_id, asyncio.Lock())

    async def close_idle(self, seconds: float) -> None:
        """Close the sessions without a tab that nobody used for a while."""
        now = time.monotonic()
        for session_id, session in tuple(self.sessions.items()):
            if not session.is_used and now - session.used > seconds:
                await self.close_session(session_id)
        for session_id in self._locks.keys() - self.sessions.keys():
            if not self._locks[session_id].locked():
                del self._locks[session_id]

    async def close(self) -> None:
        """Stop all passes and save all sessions."""
        for session_id in tuple(self.sessions):
            try:
                await self.close_session(session_id)
            except Exception:  # noqa: PERF203  a full disk; the others are saved
                logger.exception('The session %s could not be saved', session_id)

    async def use_model(self, name: str) -> None:
        """Track with another model from now on, see :meth:`ModelStore.use`."""
        predictor = await self.worker.call(self.models.use, name)
        for session in tuple(self.sessions.values()):

            def switch(session: OpenSession = session) -> None:
                session.stop_pass()
                session.annotator.use_predictor(predictor)

            await self.worker.call(switch)
        self.tell_all({'type': 'model', 'name': self.models.current.name})

    def tell_all(self, message: Message) -> None:
        """Send a message to all pages."""
        for session in self.sessions.values():
            for tab in session.tabs:
                tab.tell(message)

    # Commands

    async def answer(self, tab: Tab, client: str, request: protocol.Request) -> None:
        """Run a command of a tab, or find the reply that it got before, and answer."""
        number, command = request
        if isinstance(command, protocol.REPEATABLE):
            tab.tell(await self._reply(tab, request))
            return
        replies = tab.session.replies_of(client)
        if number not in replies:
            replies[number] = asyncio.ensure_future(self._reply(tab, request))
            while len(replies) > MAX_REPLIES:
                replies.popitem(last=False)
        # The command goes on if this tab leaves; its next connection gets the reply.
        tab.tell(await asyncio.shield(replies[number]))

    async def _reply(self, tab: Tab, request: protocol.Request) -> Message:
        number, command = request
        session = tab.session
        session.used = time.monotonic()
        try:
            values = await self._run(session, tab, command)
        except Exception as error:  # noqa: BLE001  the user is told
            problem = describe_error(error)
            if problem.status == DISK_FULL:
                session.notify('error', problem.message)
            return {'type': 'error', 'request': number, 'message': problem.message}
        return {'type': 'done', 'request': number, **values}

    async def _run(
        self, session: OpenSession, tab: Tab, command: protocol.Command
    ) -> Message:
        annotator = session.annotator
        match command:
            case protocol.Ping() | protocol.Hello():
                return {}
            case protocol.Masks():
                return await self._send_masks(session, tab, command)
            case protocol.Scores():
                return self._send_scores(session, tab, command)
            case protocol.Propagate() | protocol.Refine():
                return await self._start_pass(session, command)
            case protocol.Cancel():
                await self.worker.call(session.stop_pass)
                return {}
            case protocol.Propose() | protocol.ProposeText():
                return await self._propose(session, tab, command)
            case protocol.AcceptProposals():
                return await self._accept(session, command)
        change = mutation(annotator, command)
        # What a running pass tracked is part of what is undone.
        ends_pass = isinstance(command, protocol.Undo | protocol.Redo)
        changed = await self.apply(session, change, ends_pass=ends_pass)
        if isinstance(command, protocol.MergeObjects):
            return {'object': command.into}
        return {'object': changed.created[-1]} if changed.created else {}

    async def apply(
        self,
        session: OpenSession,
        change: Callable[[], Change],
        *,
        ends_pass: bool = False,
    ) -> Change:
        """Change a session in the model's thread, and tell its tabs.

        Args:
            session: The session.
            change: The call of its annotator.
            ends_pass: Stop the running pass first.

        Raises:
            ValueError: If the change is refused.
            OSError: If the disk is full.
        """

        def run() -> News:
            if ends_pass:
                session.stop_pass()
            return session.note(change())

        news = await self.worker.call(run)
        session.publish(news)
        return news.change

    async def _send_masks(
        self, session: OpenSession, tab: Tab, command: protocol.Masks
    ) -> Message:
        self._check_frames(session, *command.frames)
        for frame in command.frames:
            tab.tell(await asyncio.to_thread(session.pack_frame, frame))
        return {}

    def _send_scores(
        self, session: OpenSession, tab: Tab, command: protocol.Scores
    ) -> Message:
        annotator = session.annotator
        document = annotator.document
        numbers = document.objects if command.objects is None else command.objects
        for number in numbers:
            if number in document.objects:
                scores = annotator.scores(number)
                tab.tell(pack_scores(number, scores, document.revision))
        return {}

    @staticmethod
    def _check_frames(session: OpenSession, *frames: int) -> None:
        num_frames = session.annotator.video.num_frames
        for frame in frames:
            if frame >= num_frames:
                msg = f'frame is {frame}; the video has frames 0 to {num_frames - 1}'
                raise ValueError(msg)

    # Proposals

    async def _propose(
        self,
        session: OpenSession,
        tab: Tab,
        command: protocol.Propose | protocol.ProposeText,
    ) -> Message:
        self._check_frames(session, command.frame)
        proposals = await self.worker.call(self._find_proposals, session, command)
        session.proposals.pop(command.frame, None)
        session.proposals[command.frame] = proposals
        while len(session.proposals) > MAX_PROPOSED_FRAMES:
            session.proposals.popitem(last=False)
        described = [
            {'index': index, 'score': finite_or_none(item.score), 'label': item.label}
            for index, item in enumerate(proposals)
        ]
        entries = [
            PackedMask(index, item.score, 0, item.code)
            for index, item in enumerate(proposals)
        ]
        annotator = session.annotator
        size = annotator.video.size(command.frame)
        revision = annotator.document.revision
        tab.tell({'type': 'proposals', 'frame': command.frame, 'proposals': described})
        tab.tell(pack_masks(protocol.PROPOSALS, command.frame, size, entries, revision))
        return {}

    def _find_proposals(
        self, session: OpenSession, command: protocol.Propose | protocol.ProposeText
    ) -> list[Proposal]:
        """Run the model on a frame, in its thread."""
        frame = session.annotator.video.read(command.frame)
        existing = [item.code for item in session.annotator.masks(command.frame)]
        if isinstance(command, protocol.Propose):
            return propose_masks(
                self.models.predictor,
                frame,
                existing=existing,
                settings=command.settings,
            )
        if self.text_detector is None:
            msg = (
                'No detector is configured; start the demo with --detector CONFIG and '
                '--detector-checkpoint FILE of mmdetection'
            )
            raise ValueError(msg)
        return propose_text(
            self.models.predictor,
            self.text_detector,
            frame,
            command.text,
            threshold=command.threshold,
            existing=existing,
        )

    async def _accept(
        self, session: OpenSession, command: protocol.AcceptProposals
    ) -> Message:
        proposals = session.proposals.get(command.frame, [])
        for index in command.indices:
            if index >= len(proposals):
                msg = (
                    f'Frame {command.frame} has {len(proposals)} proposals, none with '
                    f'the index {index}; propose masks again'
                )
                raise ValueError(msg)
        names = dict(zip(command.indices, command.names, strict=False))
        masks = [
            (
                command.frame,
                proposals[index].code,
                names.get(index, ''),
                command.category or proposals[index].label,
            )
            for index in dict.fromkeys(command.indices)
        ]
        add_masks = partial(session.annotator.add_masks, masks)
        changed = await self.apply(session, add_masks)
        return {'objects': changed.created}

    # Passes

    async def _start_pass(
        self, session: OpenSession, command: protocol.Propagate | protocol.Refine
    ) -> Message:
        loop = asyncio.get_running_loop()
        annotator = session.annotator

        def start() -> None:
            if session.handle is not None:
                msg = 'Tracking is running; wait until it ends, or cancel it'
                raise RequestError(409, msg)
            if isinstance(command, protocol.Propagate):
                tracking = annotator.propagate(
                    command.objects, command.start, command.stop, command.direction
                )
            else:
                tracking = annotator.refine(command.objects, command.frame)

            def on_end(state: EndState, error: BaseException | None) -> None:
                session.handle = session.tracking = None
                loop.call_soon_threadsafe(session.end_pass, tracking, state, error)

            session.tracking = tracking
            session.handle = self.worker.start_pass(
                annotator.session_id, tracking, on_item, on_end
            )
            loop.call_soon_threadsafe(session.tell_progress)

        def on_item(change: Change) -> None:
            loop.call_soon_threadsafe(session.advance, session.note(change))

        # After the clicks that were sent before it.
        await self.worker.call(start)
        return {}


def mutation(annotator: Annotator, command: protocol.Command) -> Callable[[], Change]:
    """The call of the annotator that a command stands for."""
    match command:
        case protocol.Prompt():
            if not command.points and command.box is None:
                if command.object is None:
                    msg = 'A new object needs a point or a box; give one'
                    raise ValueError(msg)
                return partial(annotator.clear_prompts, command.frame, command.object)
            return partial(
                annotator.prompt,
                command.frame,
                command.object,
                command.points,
                command.box,
            )
        case protocol.Draw():
            return partial(annotator.draw, command.frame, command.object, command.mask)
        case protocol.ClearPrompts():
            return partial(annotator.clear_prompts, command.frame, command.object)
        case protocol.AddObject():
            return partial(
                annotator.add_object, name=command.name, category=command.category
            )
        case protocol.UpdateObject():
            names = ('name', 'category', 'color', 'hidden', 'locked')
            values = {name: getattr(command, name) for name in names}
            changed = {name: v for name, v in values.items() if v is not None}
            return partial(annotator.update_object, command.object, **changed)
        case protocol.DeleteObjects():
            return partial(annotator.delete_objects, command.objects)
        case protocol.MergeObjects():
            return partial(annotator.merge_objects, command.objects, command.into)
        case protocol.SplitObject():
            return partial(annotator.split_object, command.object, command.frame)
        case protocol.DeleteMasks():
            return partial(
                annotator.delete_masks, command.object, command.start, command.stop
            )
        case protocol.LockFrames():
            return partial(
                annotator.lock_frames,
                command.object,
                command.start,
                command.stop,
                command.locked,
            )
        case protocol.Undo():
            return annotator.undo
        case protocol.Redo():
            return annotator.redo
        case _:
            msg = f'{type(command).__name__} changes nothing'
            raise TypeError(msg)
