"""A session survives kills, torn files, full disks and a moved video.

``SAM2_DEMO_KILLS=20 python -m pytest tests/webdemo/test_session_folder.py -k killed``
kills a pass twenty times instead of three.
"""

import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from annotated_clips import (
    all_masks,
    new_session,
    small_predictor,
    square,
    track_all,
    write_clip,
)
from projects.sam2.webdemo.session.annotator import Annotator
from projects.sam2.webdemo.session.folder import (
    Journal,
    SessionFolder,
    SessionInUseError,
    delete_session_folder,
    list_sessions,
    new_session_folder,
)
from projects.sam2.webdemo.session.mask_log import FILE_BEGIN

# The only threads here read frames ahead, in children alone.
pytestmark = pytest.mark.filterwarnings('ignore:.*fork')
NUM_KILLS = int(os.environ.get('SAM2_DEMO_KILLS', '3'))
CLICK = (19.0, 20.0, 1)


def track_for_ever(folder: Path, pipe: int) -> None:
    """Track there and back, and write each frame with its masks to a pipe."""
    annotator = Annotator.open(folder, small_predictor())
    while True:
        for direction, start in (('forward', 0), ('backward', 9)):
            for change in annotator.propagate(None, start, None, direction):
                masks = all_masks(annotator)[change.frame or 0]
                os.write(pipe, f'{json.dumps([change.frame, masks])}\n'.encode())


def refused(folder: Path) -> SessionInUseError:
    """The error of opening a session that is open."""
    with pytest.raises(SessionInUseError) as caught:
        SessionFolder(folder)
    return caught.value


def in_child(function: Callable[[], str]) -> str:
    """Call a function in another process, which need not import the model again."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writes, function().encode())
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(child, 0)
    with os.fdopen(reads) as text:
        return text.read()


def run_and_kill(folder: Path, num_frames: int, delay: float) -> list[Any]:
    """Kill a process that tracks, some time after a number of frames.

    Returns:
        Frames and their masks, as far as they were written.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            track_for_ever(folder, writes)
        finally:
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads) as lines:
        written = [lines.readline() for _ in range(num_frames)]
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        written += lines.readlines()
    return [json.loads(line) for line in written if line.endswith('\n')]


def open_session(folder: Path) -> Annotator:
    return Annotator.open(folder / 'session', small_predictor())


def test_a_killed_pass_loses_at_most_the_running_frame(tmp_path: Path) -> None:
    folder = tmp_path / 'session'
    session = new_session(tmp_path)
    session.prompt(0, None, [CLICK], None)
    session.prompt(0, None, [(70.0, 45.0, 1)], None)
    track_all(session)
    session.close()
    for attempt in range(NUM_KILLS):
        rng = random.Random(attempt)
        written = run_and_kill(folder, rng.randrange(3, 25), 0.1 * rng.random())
        [info] = list_sessions(tmp_path)
        assert (info.state, info.crashed) == ('closed', True)
        shown = dict(written)
        session = open_session(tmp_path)
        assert session.recovered
        saved = all_masks(session)
        last, _ = written[-1]
        for frame, masks in shown.items():
            if abs(frame - last) != 1:  # the next one may be half tracked again
                found = {str(key): code for key, code in saved[frame].items()}
                assert found == masks, f'kill {attempt}, frame {frame}'
        label = session.can_undo
        assert label is not None
        assert label.startswith('Track')
        session.undo()
        session.redo()
        assert all_masks(session) == saved
        assert [c.frame for c in session.propagate(None, 2, 5, 'forward')] == [2, 3, 4]
        session.close()


def copy_after_kill(folder: Path, target: Path) -> Path:
    """What a process leaves that is killed now."""
    shutil.copytree(folder, target)
    return target


def test_every_command_is_there_after_a_kill(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    folder, predictor = tmp_path / 'session', small_predictor()
    views = []
    commands: list[Any] = [
        lambda: session.prompt(0, None, [CLICK], None),
        lambda: list(session.propagate([1], 0, 1, 'forward')),  # no new mask
        lambda: session.update_object(1, hidden=True),
        session.undo,
        lambda: track_all(session),
        lambda: session.draw(3, None, square(5, 5)),
        session.undo,
        session.undo,
        session.redo,
        lambda: session.update_object(1, name='Hund', category='Tier'),
        lambda: session.delete_masks(1, 4, 6),
        lambda: session.lock_frames(1, 0, 2, True),
    ]
    for number, command in enumerate(commands):
        command()
        views.append((session.document.objects, all_masks(session), session.can_undo))
        copy_after_kill(folder, tmp_path / f'killed{number}' / 'session')
    session.close()
    for number, view in enumerate(views):
        resumed = Annotator.open(tmp_path / f'killed{number}' / 'session', predictor)
        assert resumed.recovered
        seen = resumed.document.objects, all_masks(resumed), resumed.can_undo
        assert seen == view, f'after command {number}'
        resumed.close()


def test_torn_files_lose_only_what_was_written_last(tmp_path: Path) -> None:
    """As a loss of power leaves them: either file may end anywhere."""
    session = new_session(tmp_path, num_frames=4)
    folder, predictor = tmp_path / 'session', small_predictor()
    sizes, views = [], []
    for frame in range(4):
        session.draw(frame, None, square(frame, frame))
        sizes.append((session._files.journal.size, session._files.masks.size))
        views.append(all_masks(session))
    shutil.copytree(folder, tmp_path / 'whole')
    session.close()
    rng = random.Random(0)
    for attempt in range(12):
        torn = tmp_path / f'torn{attempt}'
        shutil.copytree(tmp_path / 'whole', torn)
        cuts = rng.randrange(1, sizes[-1][0]), rng.randrange(8, sizes[-1][1])
        os.truncate(torn / 'journal.jsonl', cuts[0])
        os.truncate(torn / 'masks.bin', cuts[1])
        whole = [j <= cuts[0] and m <= cuts[1] for j, m in sizes]
        expected = views[sum(whole) - 1] if any(whole) else {f: {} for f in range(4)}
        resumed = Annotator.open(torn, predictor)
        assert all_masks(resumed) == expected
        # No mask remains whose change was lost.
        size = sizes[sum(whole) - 1][1] if any(whole) else len(FILE_BEGIN)
        assert resumed._files.masks.size == size
        resumed.draw(0, None, square(9, 9))
        resumed.close()
        again = Annotator.open(torn, predictor)
        assert len(again.document.objects) == sum(whole) + 1
        again.close()


def test_one_process_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    [info] = list_sessions(tmp_path)
    assert (info.state, info.crashed) == ('open', False)
    assert 'is open in this process' in str(refused(tmp_path / 'session'))
    error = in_child(lambda: str(refused(tmp_path / 'session')))
    assert f'is open in process {os.getpid()}' in error
    with pytest.raises(SessionInUseError, match='is open in this process'):
        delete_session_folder(tmp_path / 'session')
    session.close()
    [info] = list_sessions(tmp_path)
    assert (info.state, info.crashed) == ('closed', False)
    resumed = open_session(tmp_path)
    assert not resumed.recovered
    resumed.close()
    delete_session_folder(tmp_path / 'session')
    assert list_sessions(tmp_path) == []


def test_nothing_is_said_to_be_saved_in_a_deleted_folder(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    session.draw(0, None, square(0, 0))
    shutil.move(tmp_path / 'session', tmp_path / 'moved')  # goes on there
    session.draw(1, 1, square(0, 0))
    shutil.rmtree(tmp_path / 'moved')
    with pytest.raises(OSError, match='was deleted while the session was open'):
        session.draw(2, 1, square(0, 0))
    assert session.mask(1, 1) is not None
    assert session.mask(1, 2) is None


@pytest.mark.parametrize('name', ['masks.bin', 'index.npz'])
def test_a_damaged_session_is_refused_without_a_trace(
    tmp_path: Path, name: str
) -> None:
    session = new_session(tmp_path)
    session.draw(0, None, square(0, 0))
    session.close()
    [index] = (tmp_path / 'session').glob('index-*.npz')
    path = index if name == 'index.npz' else tmp_path / 'session' / name
    path.write_bytes(b'something else')
    opened = Path('/proc/self/fd')
    num_open = len([*opened.iterdir()])
    with pytest.raises(ValueError, match='restore'):
        open_session(tmp_path)
    assert len([*opened.iterdir()]) == num_open
    [info] = list_sessions(tmp_path)
    assert (info.state, info.crashed) == ('closed', False)


class Tracks:
    """An object with masks that do not fit."""

    name, category, color = 'large', '', ''
    masks = MappingProxyType({frame: square(0, 0) for frame in range(10)})


def test_a_full_disk_stops_a_pass_and_leaves_the_session_whole(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    session.prompt(0, None, [CLICK], None)
    masks = tmp_path / 'session' / 'masks.bin'
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        room = masks.stat().st_size + 500
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        with pytest.raises(OSError, match='File too large'):
            track_all(session)
        tracked = [frame for frame in range(10) if session.masks(frame)]
        before = all_masks(session)
        assert 1 < len(tracked) < 10
        document = session.document
        with pytest.raises(OSError, match='File too large'):
            session.import_objects([Tracks()])
        assert (all_masks(session), session.document) == (before, document)
        killed = tmp_path / 'killed'
        shutil.copytree(tmp_path / 'session', killed)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        again = Annotator.open(killed, small_predictor())
        assert (all_masks(again), again.document.objects) == (before, document.objects)
        with pytest.raises(OSError, match='File too large'):
            again.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    # With room again, the pass goes on as if nothing had happened.
    start = len(tracked)
    track_all(session, start)
    resumed = all_masks(session)
    session.close()
    session = open_session(tmp_path)
    assert all_masks(session) == resumed
    while session.can_undo:
        session.undo()
    assert not session.document.objects
    session.prompt(0, None, [CLICK], None)
    session.use_predictor(small_predictor())
    track_all(session)
    assert {f: m[max(m)] for f, m in all_masks(session).items()} == {
        f: m[1] for f, m in resumed.items()
    }
    session.close()


def test_a_failed_flush_takes_the_command_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session(tmp_path)
    session.prompt(0, None, [CLICK], None)
    document, masks = session.document, all_masks(session)

    def fail() -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(session._files.journal, 'sync', fail)
    commands: list[Callable[[], object]] = [
        lambda: session.prompt(0, 1, [CLICK, (5.0, 60.0, 0)], None),
        lambda: session.draw(0, 1, square(0, 0)),
        lambda: session.delete_objects([1]),
        lambda: next(session.propagate(None, 1, None, 'forward')),
    ]
    for command in commands:
        with pytest.raises(OSError, match='No space left'):
            command()
        assert (session.document.objects, all_masks(session)) == (
            document.objects,
            masks,
        )
        # Nor does the change come back with the next process.
        copy_after_kill(tmp_path / 'session', tmp_path / 'killed')
        resumed = Annotator.open(tmp_path / 'killed', small_predictor())
        assert resumed.document.objects == document.objects
        assert all_masks(resumed) == masks
        resumed.close()
        shutil.rmtree(tmp_path / 'killed')
    monkeypatch.undo()
    session.prompt(0, 1, [CLICK], None)
    track_all(session)
    session.close()


def test_a_moved_video_is_found_by_its_content(tmp_path: Path) -> None:
    session = new_session(tmp_path)
    session.draw(0, None, square(0, 0))
    session.close()
    (tmp_path / 'clip').rename(tmp_path / 'moved')
    [info] = list_sessions(tmp_path)
    assert (info.state, info.source) == ('missing video', str(tmp_path / 'clip'))
    assert (info.name, info.num_frames, info.num_objects) == ('squares', 10, 1)
    with pytest.raises(ValueError, match=r'clip is missing; move it back'):
        open_session(tmp_path)
    other = write_clip(tmp_path / 'other', 9).path
    with pytest.raises(ValueError, match='num_frames is 9'):
        Annotator.open(tmp_path / 'session', small_predictor(), video_path=other)
    session = Annotator.open(
        tmp_path / 'session', small_predictor(), video_path=tmp_path / 'moved'
    )
    assert session.masks(0)[0].code == square(0, 0)
    session.close()
    assert open_session(tmp_path).video.path == tmp_path / 'moved'


def test_sessions_are_listed_with_their_names_the_latest_first(tmp_path: Path) -> None:
    video = write_clip(tmp_path / 'clip')
    for name in ('first', 'second'):
        folder = new_session_folder(tmp_path / 'sessions')
        session = Annotator.create(folder, video, small_predictor(), name=name)
        session.add_object('a')
        session.rename(f'{name} <b>')
        session.close()
    (tmp_path / 'sessions' / 'else').mkdir()
    infos = list_sessions(tmp_path / 'sessions')
    assert [info.name for info in infos] == ['second <b>', 'first <b>']
    assert [info.num_objects for info in infos] == [1, 1]
    assert list_sessions(tmp_path / 'none') == []
    with pytest.raises(ValueError, match='holds a session already'):
        Annotator.create(folder, video, small_predictor(), name='again')
    (folder / 'session.json').write_text('{')
    assert {info.state for info in list_sessions(tmp_path / 'sessions')} == {
        'closed',
        'damaged',
    }
    with pytest.raises(ValueError, match='is damaged'):
        Annotator.open(folder, small_predictor())


def test_a_snapshot_saves_reading_the_journal_and_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        'projects.sam2.webdemo.session.store.SNAPSHOT_JOURNAL_BYTES', 1500
    )
    session = new_session(tmp_path)
    for number in range(12):
        session.draw(number % 10, None, square(number, number))
    sizes = json.loads((tmp_path / 'session' / 'session.json').read_text())
    assert 0 < sizes['journal_size'] < session._files.journal.size + 1
    assert len(list((tmp_path / 'session').glob('index-*.npz'))) == 1
    copy_after_kill(tmp_path / 'session', tmp_path / 'killed')
    resumed = Annotator.open(tmp_path / 'killed', small_predictor())
    assert all_masks(resumed) == all_masks(session)
    assert resumed.document.objects == session.document.objects
    for _ in range(12):
        resumed.undo()
    assert not resumed.document.objects
    resumed.close()
    session.close()


def test_journal_lines_survive_and_a_torn_one_is_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path / 'journal.jsonl')
    entries = [{'label': 'Käse "\n"', 'n': number} for number in range(3)]
    positions = [journal.append(entry) for entry in entries]
    assert [journal.read(position) for position in positions] == entries
    journal.close()
    data = (tmp_path / 'journal.jsonl').read_bytes()
    assert data.count(b'\n') == 3
    (tmp_path / 'journal.jsonl').write_bytes(data[:-4])
    journal = Journal(tmp_path / 'journal.jsonl')
    assert [entry for *_, entry in journal.scan(0)] == entries[:2]
    with pytest.raises(OSError, match='is damaged'):
        journal.read(positions[2])
    journal.close()


def random_command(session: Annotator, rng: random.Random) -> None:
    """Some command on some object; many are refused."""
    ids = [*session.document.objects, 0]
    key, frame = rng.choice(ids), rng.randrange(6)
    stop = rng.randint(frame + 1, 6)
    x, y = rng.uniform(1, 94), rng.uniform(1, 62)
    commands: list[Callable[[], object]] = [
        lambda: session.prompt(frame, key or None, [(x, y, 1)], None),
        lambda: session.draw(frame, key or None, square(int(y) // 2, int(x) // 2)),
        lambda: list(session.propagate(None, frame, stop, 'forward')),
        lambda: list(session.refine([key], frame)),
        lambda: session.clear_prompts(frame, key),
        lambda: session.merge_objects(ids[:2], key),
        lambda: session.split_object(key, frame),
        lambda: session.delete_masks(key, frame, stop),
        lambda: session.lock_frames(key, frame, stop, rng.random() < 0.5),
        lambda: session.update_object(key, locked=rng.random() < 0.3),
        lambda: session.add_masks([(frame, square(1, 1), '', 'class')]),
        session.undo,
        session.undo,
        session.redo,
    ]
    before = (session.document, all_masks(session), session.can_undo)
    try:
        rng.choice(commands)()
    except ValueError:
        assert before == (session.document, all_masks(session), session.can_undo)


def test_any_use_is_there_after_a_kill_and_can_be_undone(tmp_path: Path) -> None:
    session, rng = new_session(tmp_path, num_frames=6), random.Random(3)
    for number in range(120):
        random_command(session, rng)
        if number % 10 == 9:
            killed = copy_after_kill(tmp_path / 'session', tmp_path / f'killed{number}')
            resumed = Annotator.open(killed, small_predictor())
            assert resumed.document.objects == session.document.objects
            assert all_masks(resumed) == all_masks(session)
            labels = resumed.can_undo, resumed.can_redo
            assert labels == (session.can_undo, session.can_redo)
            resumed.close()
    end, masks = session.document.objects, all_masks(session)
    depth = len(session._store.entries)
    for _ in range(depth):
        session.undo()
    assert not session.document.objects
    for _ in range(depth):
        session.redo()
    assert (session.document.objects, all_masks(session)) == (end, masks)
    session.close()
