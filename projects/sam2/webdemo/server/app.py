"""The application of the demo: its pages, its HTTP interface, and its sockets."""

import asyncio
import logging
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from ...apis.building import usable_device
from ...bridges.detection.detector import Detector
from ...ops import write_atomically
from ...version import __version__
from ..effects import EffectOptions
from ..formats.exports import EXPORT_FORMATS, export_annotations
from ..formats.imports import IMPORT_FORMATS, import_annotations
from ..models import ModelStore
from ..rendering import render_still, render_video
from ..session.folder import THUMBNAIL, list_sessions
from ..training import MAX_EPOCHS, TrainingRuns
from . import protocol
from .hub import UNKNOWN_SESSION, Hub, OpenSession, SessionView, Tab
from .jobs import JobStore, Progress
from .media import MediaCache
from .protocol import choice, one_line, optional, sequence, whole
from .security import (
    LOOPBACK_NAMES,
    AccessRules,
    Guard,
    RequestError,
    confine,
    describe_error,
)
from .sources import (
    EXAMPLE_PREFIX,
    browse,
    collect_images,
    describe_examples,
    kind_of,
    write_example,
)
from .uploads import PREFIX as UPLOAD_PREFIX
from .uploads import UploadStore
from .worker import ModelWorker

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parents[1] / 'static'
DOWNLOAD = 'application/octet-stream'
FOREVER = 'private, max-age=31536000, immutable'
MAX_BODY = 256 * 1024  # bytes of a JSON request
BODY_SECONDS = 30.0  # in which one has to come
MAX_IN_FLIGHT = 32  # commands of a tab that wait for an answer
COMMANDS_PER_SECOND = 200.0  # of a tab; faster ones wait
BURST = 400  # commands that need not wait
SWEEP_SECONDS = 20.0  # between two looks for idle sessions and old files
TRAINING_SECONDS = 1.0  # between two looks at the trainings

Record = TypeVar('Record')
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """How the demo is started.

    Attributes:
        config: Config of the model, see :class:`ModelStore`.
        checkpoint: Its weights.
        device: Where it runs; None for the best device.
        compile: Compile it; see :class:`ModelStore`.
        fast: Run it faster on a CPU; see :func:`build_sam2`.
        policy: Its memory policy; likewise.
        sessions: Folder of the sessions, uploads and generated clips.
        roots: Folders and files that pages may open, by path.
        sources: What the command line names: videos, folders, images. Each opens its
            latest session or gets one; all images together get one.
        host_names: Names by which pages reach the server.
        any_address: Whether they may use any IP address of this computer.
        token: What pages have to know; None for a server on loopback.
        root_path: Path below which a proxy serves the demo.
        trust_proxy: Whether ``X-Forwarded-*`` is believed.
        max_upload_bytes: Limit of one upload.
        idle_seconds: After this time without a tab, a session leaves the memory.
        detector: Config of a detector of mmdetection, for text prompts.
        detector_checkpoint: Its weights.
        language_model: Folder of its language model, if it has one and its config
            names none on this machine.
    """

    config: str | None = None
    checkpoint: str | None = None
    device: str | None = None
    compile: bool = False
    fast: bool = False
    policy: str | None = None
    sessions: Path = Path('work_dirs') / 'demo'
    roots: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()
    host_names: frozenset[str] = LOOPBACK_NAMES
    any_address: bool = False
    token: str | None = None
    root_path: str = ''
    trust_proxy: bool = False
    max_upload_bytes: int = 8 * 2**30
    idle_seconds: float = 3600.0
    detector: str | None = None
    detector_checkpoint: str | None = None
    language_model: str | None = None


# Bodies of requests ------------------------------------------------------------------

SourceName = Annotated[str, one_line(4096)]
SessionIds = Annotated[tuple[str, ...], sequence(one_line(64), 1000, 1)]
Effect = Annotated[EffectOptions, protocol.read_effect]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """Open a video or images."""

    source: SourceName
    kind: Annotated[Any, optional(choice(('video', 'images')))] = None
    name: Annotated[str | None, optional(one_line())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUpdate:
    """Rename a session, or say where its video is now."""

    name: Annotated[str | None, optional(one_line())] = None
    source: Annotated[str | None, optional(one_line(4096))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExport:
    """Export the annotations of a session."""

    format: Annotated[str, choice(tuple(EXPORT_FORMATS))]
    with_frames: Annotated[bool, protocol.read_flag] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRender:
    """Render a film with an effect."""

    kind: Annotated[Literal['mp4', 'gif'], choice(('mp4', 'gif'))]
    effect: Effect
    start: protocol.Frame = 0
    stop: protocol.OptionalFrame = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStill:
    """Render a frame with an effect."""

    frame: protocol.Frame
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImport:
    """Import annotations into a session."""

    source: SourceName
    format: Annotated[str | None, optional(choice(tuple(IMPORT_FORMATS)))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTraining:
    """Train on sessions."""

    sessions: SessionIds
    name: Annotated[str, one_line(64)]
    epochs: Annotated[int | None, optional(whole(1, MAX_EPOCHS))] = None
    size: Annotated[str | None, optional(one_line(32))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UseModel:
    """Track with another model."""

    name: Annotated[str, one_line(500)]


async def read_body(request: Request, kind: type[Record]) -> Record:
    """Read and check the JSON body of a request.

    Raises:
        RequestError: If it is too large, not JSON, or a value is wrong.
    """
    if request.headers.get('content-type', '').partition(';')[0] != 'application/json':
        raise RequestError(415, 'Send JSON, with the content type application/json')
    body = b''
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    msg = f'The request has more than {MAX_BODY} bytes; send less'
                    raise RequestError(413, msg)
    except TimeoutError:
        msg = f'The request took more than {BODY_SECONDS:g} s; send it again'
        raise RequestError(408, msg) from None
    try:
        entries = protocol.parse_json(body)
        return kind(**protocol.read_entries(kind, entries, 'The request'))
    except ValueError as error:
        raise RequestError(400, str(error)) from error


# The demo ----------------------------------------------------------------------------


class Demo:
    """Everything that the endpoints share.

    Args:
        options: How the demo is started.

    Raises:
        ValueError: If the model cannot be built.
        OSError: If the folder of the sessions cannot be written.
    """

    def __init__(self, options: DemoOptions) -> None:
        self.options = options
        folder = options.sessions.expanduser().absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.examples = folder / 'examples'
        self.uploads = UploadStore(folder / 'uploads', options.max_upload_bytes)
        self.jobs = JobStore(folder / 'jobs')
        self.roots = tuple(root.expanduser().resolve() for root in options.roots)
        device = str(usable_device(options.device))
        self.runs = TrainingRuns(folder / 'training', device=device)
        self.models = ModelStore(
            config=options.config,
            checkpoint=options.checkpoint,
            device=device,
            compile=options.compile,
            fast=options.fast,
            policy=options.policy,
            find_run=self.runs.model,
            list_runs=self.runs.best_models,
        )
        detector = None
        if options.detector is not None:
            detector = Detector(
                options.detector,
                options.detector_checkpoint,
                device=device,
                language_model=options.language_model,
            )
        self.worker = ModelWorker()
        # Built here, so that a wrong checkpoint ends the program with a message.
        self.worker.submit(lambda: self.models.predictor).result()
        self.media = MediaCache()
        self.hub = Hub(folder, self.worker, self.models, self.media.forget, detector)
        self._answers: set[asyncio.Future[None]] = set()
        self._told_training = self.runs.status()

    def open_sources(self) -> list[str]:
        """Make sessions of what the command line names, before the server runs.

        Returns:
            Their ids.

        Raises:
            ValueError: If one is no video or image.
            OSError: If one cannot be read.
        """
        paths = [path.expanduser().absolute() for path in self.options.sources]
        images = [
            path for path in paths if kind_of(path) == 'images' and path.is_file()
        ]
        if len(images) > 1:
            others = [path for path in paths if path not in images]
            paths = [*others, collect_images(images, self.folder / 'images')]
        return [self._open_source(path) for path in paths]

    def _open_source(self, path: Path) -> str:
        for info in list_sessions(self.folder):
            if info.source == str(path) and info.state == 'closed':
                return info.session_id
        return asyncio.run(self.hub.create(path, None, None))

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Run what goes on beside the requests; end everything cleanly."""
        del app
        sweep_seconds = min(SWEEP_SECONDS, self.options.idle_seconds / 4)
        tasks = [
            asyncio.create_task(_repeat(self._sweep, sweep_seconds)),
            asyncio.create_task(_repeat(self._tell_training, TRAINING_SECONDS)),
        ]
        # Closed from the last to the first, whatever fails: training would go on.
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.media.close)
            closing.push_async_callback(asyncio.to_thread, self.runs.close)
            closing.push_async_callback(asyncio.to_thread, self.worker.close)
            closing.push_async_callback(self.hub.close)
            closing.push_async_callback(asyncio.to_thread, self.jobs.close)
            closing.push_async_callback(_cancel, tasks)
            yield

    async def _sweep(self) -> None:
        """Close idle sessions, and delete old files."""
        await self.hub.close_idle(self.options.idle_seconds)
        await asyncio.to_thread(self.jobs.remove_old)
        used = [Path(info.source) for info in await self.hub.list_sessions()]
        await asyncio.to_thread(self.uploads.remove_unused, used)

    async def _tell_training(self) -> None:
        """Tell all pages how the trainings go, if that has changed."""
        runs = await asyncio.to_thread(self.runs.status)
        if runs != self._told_training:
            self._told_training = runs
            self.hub.tell_all({'type': 'training', 'runs': runs})

    @contextmanager
    def using(self, session: OpenSession) -> Iterator[OpenSession]:
        """Keep a session in memory while a request or a job reads it."""
        use = object()
        session.uses.add(use)
        try:
            yield session
        finally:
            session.uses.discard(use)

    def find_source(self, source: str) -> Path:
        """Resolve what a page names: an upload, a generated clip, or a path.

        Raises:
            RequestError: If it is nothing that may be opened.
        """
        if source.startswith(UPLOAD_PREFIX):
            return self.uploads.path(source)
        if source.startswith(EXAMPLE_PREFIX):
            name = source.removeprefix(EXAMPLE_PREFIX)
            return write_example(name, self.examples)
        return confine(source, self.roots)

    # Start page

    async def health(self, request: Request) -> Response:
        """Whether the server answers."""
        del request
        return JSONResponse({'status': 'ok'})

    async def info(self, request: Request) -> Response:
        """What the server offers."""
        del request
        formats: dict[str, Mapping[str, str]] = {
            'export_formats': EXPORT_FORMATS,
            'import_formats': IMPORT_FORMATS,
        }
        return JSONResponse(
            {
                'version': __version__,
                'model': self.models.describe(),
                'models': list(await asyncio.to_thread(self.models.choices)),
                'examples': describe_examples(),
                'roots': [str(root) for root in self.roots],
                'max_upload_bytes': self.options.max_upload_bytes,
                'features': {
                    'text': self.hub.text_detector is not None,
                    'training': True,
                },
                **{
                    key: [{'name': n, 'title': title} for n, title in known.items()]
                    for key, known in formats.items()
                },
            }
        )

    async def browse(self, request: Request) -> Response:
        """List a folder in the roots."""
        path = request.query_params.get('path') or '.'  # the first root
        folder = await asyncio.to_thread(confine, path, self.roots)
        return JSONResponse(await asyncio.to_thread(browse, folder, self.roots))

    async def upload(self, request: Request) -> Response:
        """Receive a file."""
        length = request.headers.get('content-length', '')
        upload = await self.uploads.receive(
            request.query_params.get('name', ''),
            request.stream(),
            num_bytes=int(length) if length.isdecimal() else None,
            upload=request.query_params.get('upload'),
        )
        return JSONResponse({'upload': upload}, 201)

    # Sessions

    async def list_sessions(self, request: Request) -> Response:
        """List the sessions."""
        del request
        keys = ('name', 'source', 'kind', 'num_frames', 'num_objects', 'modified')
        return JSONResponse(
            [
                {
                    'id': info.session_id,
                    **{key: getattr(info, key) for key in keys},
                    'state': info.state,
                    'crashed': info.crashed,
                    'key': info.key,
                }
                for info in await self.hub.list_sessions()
            ]
        )

    async def create_session(self, request: Request) -> Response:
        """Make a session of a video."""
        body = await read_body(request, NewSession)
        source = await asyncio.to_thread(self.find_source, body.source)
        session_id = await self.hub.create(source, body.kind, body.name)
        return JSONResponse({'id': session_id}, 201)

    async def update_session(self, request: Request) -> Response:
        """Rename a session, or say where its video is now."""
        body = await read_body(request, SessionUpdate)
        if body.source is not None:
            path = await asyncio.to_thread(self.find_source, body.source)
            await self.hub.relocate(request.path_params['session'], path)
        session = await self._session(request)
        if body.name is not None:
            await self.worker.call(session.annotator.rename, body.name)
        return JSONResponse({'name': session.annotator.name})

    async def delete_session(self, request: Request) -> Response:
        """Delete a session, and its upload if no other session shows it."""
        source = await self.hub.delete(request.path_params['session'])
        others = [Path(info.source) for info in await self.hub.list_sessions()]
        if source not in others:
            await asyncio.to_thread(self.uploads.remove, source)
        return Response(status_code=204)

    async def _session(self, request: Request) -> OpenSession:
        return await self.hub.get(request.path_params['session'])

    # Frames

    async def frame(self, request: Request) -> Response:
        """A frame as JPEG, at its own size."""
        return await self._image(request, self.media.frame)

    async def thumbnail(self, request: Request) -> Response:
        """A small version of a frame.

        The first one is kept with the session, so that a list of sessions opens none.
        """
        session_id = request.path_params['session']
        if request.path_params['frame']:
            return await self._image(request, self.media.thumbnail)
        if session_id not in self.hub.sessions:
            info = await self.hub.find(session_id)
            kept = self.hub.folder / info.session_id / THUMBNAIL
            if request.query_params.get('key') == info.key and kept.is_file():
                return FileResponse(kept, headers={'Cache-Control': FOREVER})
        response = await self._image(request, self.media.thumbnail)
        if response.status_code == HTTPStatus.OK:
            kept = self.hub.folder / session_id / THUMBNAIL
            with suppress(OSError):  # it is made again
                await asyncio.to_thread(write_atomically, kept, bytes(response.body))
        return response

    async def _image(
        self, request: Request, encode: Callable[[Any, int], Awaitable[bytes]]
    ) -> Response:
        session = await self._session(request)
        video = session.annotator.video
        index = request.path_params['frame']
        if request.query_params.get('key') != video.key:
            msg = 'The address is of another version of the video; reload the page'
            raise RequestError(404, msg)
        if index >= video.num_frames:
            msg = f'There is no frame {index}; the last one is {video.num_frames - 1}'
            raise RequestError(404, msg)
        kind = 'thumb' if encode == self.media.thumbnail else 'frame'
        headers = {
            'ETag': f'"{video.key}-{kind}-{index}"',
            'Cache-Control': FOREVER,
        }
        if headers['ETag'] in request.headers.get('if-none-match', ''):
            return Response(status_code=304, headers=headers)
        with self.using(session):
            content = await encode(video, index)
        return Response(content, media_type='image/jpeg', headers=headers)

    # Exports

    async def export(self, request: Request) -> Response:
        """Start an export."""
        body = await read_body(request, NewExport)

        def write(view: SessionView, target: Path, progress: Progress) -> None:
            export_annotations(
                view, target, body.format, progress, with_frames=body.with_frames
            )

        return await self._start_job(request, f'_{body.format}.zip', write)

    async def render(self, request: Request) -> Response:
        """Start to render a film."""
        body = await read_body(request, NewRender)

        def write(view: SessionView, target: Path, progress: Progress) -> None:
            stop = view.video.num_frames if body.stop is None else body.stop
            render_video(
                view, target, body.kind, body.effect, body.start, stop, progress
            )

        return await self._start_job(request, f'.{body.kind}', write)

    async def _start_job(
        self,
        request: Request,
        suffix: str,
        write: Callable[[SessionView, Path, Progress], None],
    ) -> Response:
        """Start a job that reads a session."""
        loop = asyncio.get_running_loop()
        session = await self._session(request)
        session_id = session.annotator.session_id

        def run(target: Path, progress: Progress) -> None:
            # The session may have left the memory while the job waited.
            getting = self.hub.get(session_id)
            current = asyncio.run_coroutine_threadsafe(getting, loop).result()
            with self.using(current):
                write(SessionView(current.annotator), target, progress)

        job = self.jobs.start(f'{file_name(session.annotator.name)}{suffix}', run)
        return JSONResponse({'job': job.job_id}, 202)

    async def still(self, request: Request) -> Response:
        """Render a frame."""
        body = await read_body(request, NewStill)
        session = await self._session(request)
        with self.using(session):
            content = await asyncio.to_thread(
                render_still, session.annotator, body.frame, body.effect
            )
        name = f'{file_name(session.annotator.name)}_{body.frame:05d}.png'
        headers = {'Content-Disposition': f'attachment; filename="{name}"'}
        return Response(content, media_type='image/png', headers=headers)

    async def job(self, request: Request) -> Response:
        """How far a job is."""
        return JSONResponse(self.jobs.get(request.path_params['job']).describe())

    async def cancel_job(self, request: Request) -> Response:
        """Cancel a job, or delete its file."""
        await asyncio.to_thread(self.jobs.cancel, request.path_params['job'])
        return Response(status_code=204)

    async def job_file(self, request: Request) -> Response:
        """Download what a job has written."""
        job = self.jobs.get(request.path_params['job'])
        if job.file is None:
            msg = f'The file is not there yet; the job is {job.state}'
            raise RequestError(409, msg)
        return FileResponse(job.file, filename=job.name, media_type=DOWNLOAD)

    async def import_(self, request: Request) -> Response:
        """Import annotations, as one change that can be undone."""
        body = await read_body(request, NewImport)
        session = await self._session(request)
        annotator = session.annotator
        with self.using(session):
            path = await asyncio.to_thread(self.find_source, body.source)
            try:
                objects = await asyncio.to_thread(
                    import_annotations, path, annotator.video, body.format
                )
            except ValueError as error:
                # Uploads lie in folders whose names mean nothing to their user.
                msg = str(error).replace(f'{path.parent}/', '')
                raise ValueError(msg) from error
            changed = await self.hub.apply(
                session, partial(annotator.import_objects, objects)
            )
        return JSONResponse({'num_objects': len(changed.created)})

    # Training and models

    async def list_training(self, request: Request) -> Response:
        """List the trainings."""
        del request
        return JSONResponse(await asyncio.to_thread(self.runs.status))

    async def start_training(self, request: Request) -> Response:
        """Train on sessions."""
        body = await read_body(request, NewTraining)
        uses = ExitStack()  # sessions stay in memory until the data set is written
        try:
            sessions = [
                uses.enter_context(self.using(await self.hub.get(name)))
                for name in body.sessions
            ]

            def start() -> str:
                return self.runs.start(
                    [SessionView(session.annotator) for session in sessions],
                    name=body.name,
                    epochs=body.epochs,
                    size=body.size,
                    model=self.models.current,
                    on_read=uses.close,
                )

            run = await asyncio.to_thread(start)
        except BaseException:
            uses.close()
            raise
        return JSONResponse({'run': run}, 202)

    async def stop_training(self, request: Request) -> Response:
        """Stop a training."""
        await asyncio.to_thread(self.runs.stop, request.path_params['run'])
        return Response(status_code=204)

    async def list_models(self, request: Request) -> Response:
        """List the models."""
        del request
        choices = await asyncio.to_thread(self.models.choices)
        return JSONResponse(
            {'current': self.models.describe(), 'models': list(choices)}
        )

    async def use_model(self, request: Request) -> Response:
        """Track with another model."""
        body = await read_body(request, UseModel)
        await self.hub.use_model(body.name)
        return JSONResponse(self.models.describe())

    # Sockets

    async def socket(self, websocket: WebSocket) -> None:
        """Talk to a page until it leaves."""
        await websocket.accept()
        try:
            session = await self.hub.get(websocket.path_params['session'])
        except Exception as error:  # noqa: BLE001  the page is told
            await websocket.close(UNKNOWN_SESSION, short_reason(error))
            return
        tab = Tab(websocket, session)
        try:
            with self.using(session):  # it may take a while to say hello
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_until_left, tab.send_all, tasks.cancel_scope)
                    await _until_left(
                        partial(self._receive, websocket, tab), tasks.cancel_scope
                    )
        finally:
            session.tabs.discard(tab)

    async def _receive(self, websocket: WebSocket, tab: Tab) -> None:
        """Read the commands of a page; the first one says who it is."""
        session = tab.session
        client: str | None = None
        budget = Budget(COMMANDS_PER_SECOND, BURST)
        slots = anyio.Semaphore(MAX_IN_FLIGHT)
        while True:
            message = await websocket.receive()
            if message['type'] == 'websocket.disconnect':
                return
            await budget.spend()
            try:
                request = protocol.parse_command(
                    message.get('text') or message.get('bytes') or ''
                )
                if isinstance(request.command, protocol.Hello):
                    client = request.command.client
                    tab.hold()
                    session.tabs.add(tab)
                    tab.greet(
                        await asyncio.to_thread(
                            session.describe, self.models.current.name
                        )
                    )
                    continue
            except protocol.ProtocolError as error:
                tab.tell(
                    {'type': 'error', 'request': error.request, 'message': str(error)}
                )
                continue
            if client is None:
                msg = 'Say who you are first: {"type": "hello", "client": UUID}'
                tab.tell({'type': 'error', 'request': request.number, 'message': msg})
                continue
            await slots.acquire()
            task = asyncio.ensure_future(self.hub.answer(tab, client, request))
            self._answers.add(task)  # the event loop itself keeps no task
            task.add_done_callback(self._answers.discard)
            task.add_done_callback(lambda _: slots.release())


def short_reason(error: Exception) -> str:
    """An error in at most 123 bytes, as much as a closed socket tells."""
    return describe_error(error).message.encode()[:120].decode('utf-8', 'ignore')


async def _repeat(work: Callable[[], Awaitable[None]], seconds: float) -> None:
    """Do something again and again; a failure, as of a full disk, ends nothing."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:
            logger.exception('The server goes on after an error')


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Budget:
    """Slows down who sends more than so many messages a second."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._seen = burst, anyio.current_time()

    async def spend(self) -> None:
        """Spend one, and wait until there is one to spend."""
        now = anyio.current_time()
        self._left += (now - self._seen) * self._per_second
        self._left = min(self._left, self._burst) - 1
        self._seen = now
        if self._left < 0:
            await anyio.sleep(-self._left / self._per_second)


async def _until_left(
    talk: Callable[[], Awaitable[None]], scope: anyio.CancelScope
) -> None:
    """Talk until the page leaves or is sent away; then end the other direction."""
    # A connection may be cut at any time.
    with suppress(WebSocketDisconnect, RuntimeError, OSError):
        await talk()
    scope.cancel()


def file_name(name: str) -> str:
    """Turn a session's name into that of a file, of plain ASCII characters."""
    return re.sub('[^0-9A-Za-z-]+', '_', name).strip('_')[:80] or 'session'


# The application ---------------------------------------------------------------------


class FrameIndexConvertor(IntegerConvertor):
    """An index in an address; Python refuses to read one of thousands of digits."""

    regex = '[0-9]{1,10}'


register_url_convertor('frame_index', FrameIndexConvertor())


class Pages(StaticFiles):
    """The built page; its files carry a hash in their names, the page does not."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve a file, with how long a browser may keep it."""
        response = await super().get_response(path, scope)
        is_hashed = path.startswith('assets/')
        response.headers['Cache-Control'] = FOREVER if is_hashed else 'no-cache'
        return response


async def _no_page(scope: Scope, receive: Receive, send: Send) -> None:
    msg = (
        f'The page is not built; run npm ci and npm run build in '
        f'{STATIC.parent / "frontend"}'
    )
    await JSONResponse({'error': msg}, 503)(scope, receive, send)


async def _tell_error(request: Request, error: Exception) -> Response:
    del request
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if isinstance(error, HTTPException):
        messages: Mapping[int, str] = {
            404: 'There is no such address; open the page of the server',
            405: 'The address does not take this method',
        }
        message = messages.get(error.status_code, error.detail)
        headers = dict(error.headers or {})
        return JSONResponse({'error': message}, error.status_code, headers)
    problem = describe_error(error)
    return JSONResponse({'error': problem.message}, problem.status)


def create_app(options: DemoOptions) -> Starlette:
    """Build the application: the model is loaded, and its thread started.

    Args:
        options: How the demo is started.

    Returns:
        The application; ``state.opened`` has the ids of the sessions of
        ``options.sources``.

    Raises:
        ValueError: If the model cannot be built, or a source is no video or image.
        OSError: If the folder of the sessions cannot be written.
    """
    demo = Demo(options)

    def route(method: str, path: str, endpoint: Endpoint) -> Route:
        return Route(f'/api/{path}', _with_errors(endpoint), methods=[method])

    session = 'sessions/{session}'
    routes: list[Any] = [
        route('GET', 'health', demo.health),
        route('GET', 'info', demo.info),
        route('GET', 'browse', demo.browse),
        route('POST', 'uploads', demo.upload),
        route('GET', 'sessions', demo.list_sessions),
        route('POST', 'sessions', demo.create_session),
        route('PATCH', session, demo.update_session),
        route('DELETE', session, demo.delete_session),
        route('GET', f'{session}/frames/{{frame:frame_index}}.jpg', demo.frame),
        route('GET', f'{session}/thumbs/{{frame:frame_index}}.jpg', demo.thumbnail),
        route('POST', f'{session}/exports', demo.export),
        route('POST', f'{session}/renders', demo.render),
        route('POST', f'{session}/stills', demo.still),
        route('POST', f'{session}/imports', demo.import_),
        route('GET', 'jobs/{job}', demo.job),
        route('DELETE', 'jobs/{job}', demo.cancel_job),
        route('GET', 'jobs/{job}/file', demo.job_file),
        route('GET', 'training', demo.list_training),
        route('POST', 'training', demo.start_training),
        route('DELETE', 'training/{run}', demo.stop_training),
        route('GET', 'models', demo.list_models),
        route('POST', 'models/use', demo.use_model),
        WebSocketRoute(f'/api/{session}/socket', demo.socket),
    ]
    pages = Pages(directory=STATIC, html=True) if STATIC.is_dir() else _no_page
    routes.append(Mount('/', pages))
    rules = AccessRules(
        host_names=options.host_names,
        any_address=options.any_address,
        token=options.token,
        is_behind_proxy=options.trust_proxy,
    )
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, rules=rules)],
        exception_handlers={HTTPException: _tell_error},
        lifespan=demo.lifespan,
    )
    app.state.opened = demo.open_sources()
    return app


def _with_errors(endpoint: Endpoint) -> Endpoint:
    """Answer errors in words. Starlette would log and raise what it does not know."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001  the user is told
            return await _tell_error(request, error)

    return answer
