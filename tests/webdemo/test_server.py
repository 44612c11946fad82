"""Tests of a running server: what pages get, and what they may rely on."""

import asyncio
import io
import json
import os
import random
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from demo_server import (
    MINI_CONFIG,
    MINI_WEIGHTS,
    WAIT,
    DemoServer,
    Masks,
    Page,
    Scores,
    is_type,
    running_demo,
)
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.datasets.io.images import read_labels
from projects.sam2.ops import (
    EncodedMask,
    count_encoded_pixels,
    decode_masks,
    encode_masks,
)
from projects.sam2.webdemo.server import hub
from projects.sam2.webdemo.server.app import DemoOptions
from projects.sam2.webdemo.server.hub import News, Tab, merge_ranges
from projects.sam2.webdemo.server.jobs import JobStore
from projects.sam2.webdemo.session.annotator import Annotator, Change
from projects.sam2.webdemo.session.folder import list_sessions
from projects.sam2.webdemo.session.mask_log import MaskLog
from projects.sam2.webdemo.training import TrainingRuns
from text_detectors import (
    write_detector_weights,
    write_grounding_dino,
    write_language_model,
)

OpenPage = Callable[..., Page]
NUM_FRAMES, SIZE = 24, (90, 120)
BOX = [12, 27, 48, 63]  # of the disc on the first frame


def prompt_disc(page: Page, frame: int = 0, **entries: Any) -> dict[str, Any]:
    """Draw a box around the disc."""
    box = [BOX[0] + 2 * frame, BOX[1], BOX[2] + 2 * frame, BOX[3]]
    prompt = {'frame': frame, 'object': None, 'points': [], 'box': box}
    reply = page.ask('prompt', **prompt | entries)
    assert reply['type'] == 'done', reply
    return reply


def pixels(code: EncodedMask) -> NDArray[np.bool_]:
    """Decode one mask."""
    mask: NDArray[np.bool_] = decode_masks([code])[0]
    return mask


def objects_of(page: Page) -> list[str]:
    """Ids of the objects, as a page that connects now gets them."""
    page.send('hello', client=page.client)
    hello = page.wait_for(lambda m: is_type(m, 'hello'))
    return list(hello['document']['objects'])


# Sessions and masks ------------------------------------------------------------------


def test_a_page_learns_all_about_the_session(open_page: OpenPage) -> None:
    page = open_page()
    session = page.hello['session']
    assert session['name'] == 'disc'
    assert session['num_frames'] == NUM_FRAMES
    assert session['sizes'] == [[*SIZE]]
    assert session['frame_names'][3] == '00003'
    assert session['model'] == 'sam2_mini'
    assert page.hello['document']['objects'] == {}
    assert page.hello['pass'] is None


def test_masks_are_those_of_the_predictor_bit_for_bit(
    open_page: OpenPage, clip_folder: Path, mini_predictor: SAM2VideoPredictor
) -> None:
    page = open_page()
    reply = prompt_disc(page)
    pushed = page.masks()[0]
    state = mini_predictor.init_state(clip_folder)
    shown = mini_predictor.add_new_points_or_box(state, 0, reply['object'], box=BOX)
    assert pushed.frame == 0
    assert pushed.size == SIZE
    assert pushed.flags == {reply['object']: 1}
    assert (
        pixels(pushed.codes[reply['object']]) == (shown.mask_logits[0, 0] > 0).numpy()
    ).all()
    page.track()
    results = list(mini_predictor.propagate_in_video(state))
    for masks, result in zip(page.masks_of(*range(NUM_FRAMES)), results, strict=True):
        expected = (result.mask_logits[0, 0] > 0).numpy()
        assert masks.frame == result.frame_index
        assert (pixels(masks.codes[reply['object']]) == expected).all()
        probability = 1 / (1 + np.exp(-float(result.object_score_logits[0])))
        assert masks.scores[reply['object']] == pytest.approx(probability, abs=0.011)


def test_a_click_overtakes_a_running_pass(open_page: OpenPage) -> None:
    page = open_page()
    prompt_disc(page)
    page.ask('propagate', start=0)
    page.wait_for(lambda m: isinstance(m, Masks) and m.frame >= 2)
    reply = page.ask('prompt', frame=0, object=None, points=[[100, 80, 1]], box=None)
    ended = page.end_of_pass()
    frames = [m.frame for m in page.masks()]
    assert reply['object'] == 2
    # The frame of the click was pushed again, and tracking went on after it.
    last_click = len(frames) - 1 - frames[::-1].index(0)
    assert 2 <= max(frames[:last_click]) < NUM_FRAMES - 1
    assert frames[-1] == NUM_FRAMES - 1
    assert (ended['state'], ended['done'], ended['total']) == ('done', 24, 24)


def test_cancel_stops_within_a_frame(open_page: OpenPage) -> None:
    page = open_page()
    prompt_disc(page)
    page.ask('propagate', start=0)
    page.wait_for(lambda m: isinstance(m, Masks) and m.frame >= 3)
    sent = max(m.frame for m in page.masks())
    page.send('cancel')
    ended = page.end_of_pass()
    assert ended['state'] == 'cancelled'
    assert ended['frame'] <= sent + 3  # those that were on their way
    page.ask('scores')
    scores = next(m for m in page.received if isinstance(m, Scores))
    tracked = [index for index, score in enumerate(scores.scores) if score != 255]
    assert tracked == list(range(ended['frame'] + 1))


def test_one_pass_at_a_time_and_undo_ends_it(open_page: OpenPage) -> None:
    page = open_page()
    prompt_disc(page)
    page.send('propagate', start=0)
    second = page.ask('propagate', start=0)
    assert second['type'] == 'error'
    assert 'Tracking is running' in second['message']
    page.wait_for(lambda m: isinstance(m, Masks) and m.frame > 0)  # there is a change
    number = page.send('undo')
    assert page.end_of_pass()['state'] == 'cancelled'
    assert page.reply(number)['type'] == 'done'
    frames = page.masks_of(*range(NUM_FRAMES))
    assert [m.frame for m in frames if m.codes] == [0]  # the click alone is left


def test_all_tabs_see_the_same(open_page: OpenPage, server: DemoServer) -> None:
    first = open_page()
    session = first.hello['session']['id']
    second = open_page(session)
    prompt_disc(first)
    changed = second.wait_for(lambda m: is_type(m, 'changed'))
    assert changed['order'] == [1]
    assert changed['undo']
    second.wait_for(lambda m: isinstance(m, Masks) and 1 in m.codes)
    second.ask('update_object', object=1, name='<b>disc</b>', color='#AABBCC')
    renamed = first.wait_for(
        lambda m: is_type(m, 'changed') and 'b>' in m['objects']['1']['name']
    )
    assert renamed['objects']['1']['name'] == '<b>disc</b>'
    late = open_page(session)
    assert late.hello['document']['objects'] == renamed['objects']
    second.ask('delete_objects', objects=[1])
    deleted = first.wait_for(lambda m: is_type(m, 'changed') and not m['order'])
    assert deleted['objects'] == {'1': None}


def test_every_command_that_changes_can_be_undone(open_page: OpenPage) -> None:
    page = open_page()
    prompt_disc(page)
    page.track(stop=6)
    square = np.zeros((1, *SIZE), dtype=bool)
    square[:, 60:80, 70:100] = True
    drawn = page.ask('draw', frame=2, object=None, mask=encode_masks(square)[0])
    assert drawn['object'] == 2
    commands: list[tuple[str, dict[str, Any]]] = [
        ('add_object', {'name': 'cell', 'category': 'cells'}),
        ('lock_frames', {'object': 1, 'start': 4, 'stop': 6, 'locked': True}),
        ('delete_masks', {'object': 1, 'start': 2, 'stop': 4}),
        ('split_object', {'object': 1, 'frame': 2}),
        ('clear_prompts', {'frame': 2, 'object': 2}),
        ('update_object', {'object': 2, 'hidden': True}),
        ('merge_objects', {'objects': [2], 'into': 3}),
        ('delete_objects', {'objects': [3]}),
    ]
    for kind, entries in commands:
        before = [m.codes for m in page.masks_of(*range(8))]
        objects = objects_of(page)
        reply = page.ask(kind, **entries)
        assert reply['type'] == 'done', (kind, reply)
        assert page.ask('undo')['type'] == 'done'
        assert [m.codes for m in page.masks_of(*range(8))] == before
        assert objects_of(page) == objects
        assert page.ask('redo')['type'] == 'done'


def test_refused_commands_change_nothing(open_page: OpenPage) -> None:
    page = open_page()
    revision = page.hello['document']['revision']
    refused: list[tuple[str, dict[str, Any], str]] = [
        ('prompt', {'frame': 24, 'object': None, 'points': [], 'box': BOX}, '24'),
        ('prompt', {'frame': 0, 'object': 9, 'points': [], 'box': BOX}, '9'),
        ('prompt', {'frame': 0, 'object': None, 'points': [], 'box': None}, 'a box'),
        ('propagate', {'start': 0}, 'no object'),
        ('undo', {}, 'undo'),
        ('masks', {'frames': [0, 99]}, '99'),
        ('delete_objects', {'objects': [5]}, '5'),
        ('accept_proposals', {'frame': 0, 'indices': [0]}, 'propose'),
        ('propose_text', {'frame': 0, 'text': 'dog'}, '--detector'),
    ]
    for kind, entries, problem in refused:
        reply = page.ask(kind, **entries)
        assert reply['type'] == 'error', kind
        assert problem in reply['message']
    page.send('hello', client=page.client)
    hello = page.wait_for(lambda m: is_type(m, 'hello'))
    assert hello['document']['revision'] == revision


def test_proposals_become_objects(open_page: OpenPage) -> None:
    page = open_page()
    settings = {'points_per_side': 6, 'pred_iou_thresh': 0.1}
    settings['stability_score_thresh'] = 0.1
    reply = page.ask('propose', frame=1, settings=settings)
    assert reply['type'] == 'done', reply
    listed = page.texts('proposals')[0]
    packed = next(m for m in page.masks() if m.kind == 2)
    assert listed['frame'] == packed.frame == 1
    assert [p['index'] for p in listed['proposals']] == list(packed.codes)
    accepted = page.ask(
        'accept_proposals', frame=1, indices=[0], names=['seed'], category='plant'
    )
    assert accepted['objects'] == [1]
    (masks,) = page.masks_of(1)
    assert masks.codes == {1: packed.codes[0]}


def test_what_a_text_names_becomes_objects_of_that_class(
    clip_folder: Path, tmp_path: Path
) -> None:
    language_model = write_language_model(tmp_path / 'bert')
    detector = write_grounding_dino(tmp_path, language_model)
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=tmp_path / 'sessions',
        roots=(clip_folder.parent,),
        detector=detector,
        detector_checkpoint=write_detector_weights(detector, tmp_path / 'weights.pth'),
    )
    text: dict[str, Any] = {'frame': 1, 'text': 'a red disk. star', 'threshold': 0.0}
    with running_demo(options) as server:
        page = Page(server, server.new_session(clip_folder))
        refused = page.ask('propose_text', **text | {'text': 'star ' * 80})
        assert 'the language model reads 64' in refused['message']
        reply = page.ask('propose_text', **text)
        assert reply['type'] == 'done', reply
        (listed,) = page.texts('proposals')
        labels = [proposal['label'] for proposal in listed['proposals']]
        assert set(labels) == {'a red disk', 'star'}
        indices = [labels.index('star'), labels.index('a red disk')]
        page.ask('accept_proposals', frame=1, indices=indices)
        page.send('hello', client=page.client)
        objects = page.wait_for(lambda m: is_type(m, 'hello'))['document']['objects']
        page.close()
    categories = [obj['category'] for obj in objects.values()]
    assert categories == ['star', 'a red disk']


# Lost connections, slow tabs ---------------------------------------------------------


def test_a_command_that_is_sent_again_acts_once(open_page: OpenPage) -> None:
    page = open_page()
    session = page.hello['session']['id']
    reply = page.ask('add_object', request=77, name='once')
    page.socket.close()
    again = open_page(session, page.client)
    assert again.ask('add_object', request=77, name='once') == reply
    assert list(again.hello['document']['objects']) == ['1']
    assert objects_of(again) == ['1']
    other = open_page(session)
    assert other.ask('add_object', request=77, name='twice')['object'] == 2


def test_a_command_goes_on_when_its_page_is_gone(open_page: OpenPage) -> None:
    page = open_page()
    session = page.hello['session']['id']
    page.send('prompt', request=5, frame=0, object=None, points=[], box=BOX)
    page.socket.socket.close()  # a cable that is pulled
    again = open_page(session, page.client)
    reply = again.ask('prompt', request=5, frame=0, object=None, points=[], box=BOX)
    assert reply['object'] == 1
    assert objects_of(again) == ['1']


class Connection:
    """A socket that sends nothing before it is told to.

    Attributes:
        sent: What was sent.
        may_send: Tells it.
    """

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.may_send = asyncio.Event()

    async def send_json(self, message: Any) -> None:
        """Send text."""
        await self.may_send.wait()
        self.sent.append(message)

    send_bytes = send_json


class ChangesOnly:
    """A session that describes changes by what it is asked for."""

    @staticmethod
    def describe_change(objects: Any, masks: Any, revision: int) -> Any:
        """The message."""
        entries = {'objects': objects, 'masks': masks, 'revision': revision}
        return {'type': 'changed', **entries}


def test_no_change_is_missed_or_comes_before_the_greeting() -> None:
    async def greet_late() -> list[Any]:
        connection: Any = Connection()
        connection.may_send.set()
        tab = Tab(connection, ChangesOnly())  # type: ignore[arg-type]
        sending = asyncio.ensure_future(tab.send_all())
        tab.hold()
        change = Change(objects=frozenset({4}), masks=((4, 0, 1),), frame=0)
        tab.tell_change(News(change, 7, None))
        tab.push(0, b'masks')
        await asyncio.sleep(0.01)
        assert connection.sent == []
        tab.greet({'type': 'hello'})
        await asyncio.sleep(0.01)
        sending.cancel()
        return list(connection.sent)

    hello, changed, masks = asyncio.run(greet_late())
    assert hello == {'type': 'hello'}
    assert (changed['objects'], changed['revision'], masks) == ({4}, 7, b'masks')


def test_nothing_piles_up_for_a_tab_that_is_closed_but_hangs() -> None:
    async def fall_behind() -> Tab:
        tab = Tab(Connection(), ChangesOnly())  # type: ignore[arg-type]
        chunk = bytes(2**20)
        for _ in range(2 * hub.MAX_BACKLOG // len(chunk)):
            tab.tell(chunk)
        return tab

    assert not asyncio.run(fall_behind())._control


def test_a_slow_tab_loses_masks_but_no_message() -> None:
    async def push_to_a_slow_tab() -> list[Any]:
        connection: Any = Connection()
        tab = Tab(connection, ChangesOnly())  # type: ignore[arg-type]
        sending = asyncio.ensure_future(tab.send_all())
        for frame in range(1000):
            change = Change(
                objects=frozenset({frame % 3}),
                masks=((1, frame, frame + 1),),
                frame=frame,
            )
            tab.tell_change(News(change, frame, None))
            tab.push(frame, b'%d' % frame)
            if frame % 10 == 0:
                tab.tell({'type': 'notice', 'number': frame})
                tab.tell_progress({'type': 'pass', 'state': 'running', 'done': frame})
            await asyncio.sleep(0)
        tab.tell_end_of_pass({'type': 'pass', 'state': 'done'})
        connection.may_send.set()
        await asyncio.sleep(0.05)
        sending.cancel()
        return list(connection.sent)

    sent = asyncio.run(push_to_a_slow_tab())
    pushes = [int(m) for m in sent if isinstance(m, bytes)]
    texts = [m for m in sent if not isinstance(m, bytes)]
    assert pushes == list(range(1000 - len(pushes), 1000))  # the latest
    assert len(pushes) <= 65
    numbers = [m['number'] for m in texts if m['type'] == 'notice']
    assert numbers == list(range(0, 1000, 10))
    changes = [m for m in texts if m['type'] == 'changed']
    ranges = [entry for m in changes for entry in m['masks']]
    assert merge_ranges(ranges) == [(1, 0, 1000)]
    assert changes[-1]['revision'] == 999
    assert [m['state'] for m in texts if m['type'] == 'pass'] == ['done']


def test_a_tab_that_does_not_read_slows_nobody_down(
    open_page: OpenPage, server: DemoServer
) -> None:
    page = open_page()
    sleeper = open_page(page.hello['session']['id'])
    prompt_disc(page)
    assert page.track()['done'] == NUM_FRAMES
    page.track(direction='backward', start=NUM_FRAMES - 1)
    sleeper.send('ping', request=900)
    assert sleeper.reply(900)['type'] == 'done'


def test_sessions_take_turns(open_page: OpenPage) -> None:
    pages = [open_page() for _ in range(3)]
    for page in pages:
        prompt_disc(page)
    for page in pages:
        page.ask('propagate', start=0, stop=NUM_FRAMES // 2)
    ended: list[float] = []

    def wait(page: Page) -> None:
        page.end_of_pass()
        ended.append(time.monotonic())

    begun = time.monotonic()
    threads = [threading.Thread(target=wait, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    # One after the other they would end at a third, two thirds and all of the time.
    assert len(ended) == 3
    assert min(ended) - begun > 0.6 * (max(ended) - begun)


# Frames ------------------------------------------------------------------------------


def frame_address(page: Page, frame: int, kind: str = 'frames') -> str:
    """Address of a frame."""
    session = page.hello['session']
    return f'/api/sessions/{session["id"]}/{kind}/{frame}.jpg?key={session["key"]}'


def test_frames_have_their_own_size_and_their_exact_index(
    open_page: OpenPage, server: DemoServer
) -> None:
    page = open_page()
    for frame in (5, 0, 23, 6, 7, 8, 9, 8, 7):
        response = server.http.get(frame_address(page, frame))
        assert response.headers['content-type'] == 'image/jpeg'
        shown = np.asarray(Image.open(io.BytesIO(response.content)))
        assert shown.shape == (*SIZE, 3)
        assert abs(shown[4:12, 4:12].mean() - 10 * frame) < 2
    small = server.http.get(frame_address(page, 5, 'thumbs'))
    thumbnail = np.asarray(Image.open(io.BytesIO(small.content)))
    assert thumbnail.shape == (72, 96, 3)
    assert abs(thumbnail[3:9, 3:9].mean() - 50) < 4


def test_browsers_keep_frames_forever(open_page: OpenPage, server: DemoServer) -> None:
    page = open_page()
    address = frame_address(page, 3)
    response = server.http.get(address)
    assert response.headers['cache-control'] == 'private, max-age=31536000, immutable'
    known = {'If-None-Match': response.headers['etag']}
    again = server.http.get(address, headers=known)
    assert (again.status_code, again.content) == (304, b'')
    for wrong in (
        address.replace('/3.jpg', '/24.jpg'),
        address[:-1] + 'x',
        address.partition('?')[0],
        address.replace('/3.jpg', '/-1.jpg'),
        address.replace('sessions/', 'sessions/x'),
    ):
        response = server.http.get(wrong)
        assert response.status_code == 404
        assert response.json()['error']
        assert 'immutable' not in response.headers['cache-control']


def test_a_broken_frame_is_named(server: DemoServer, clip_folder: Path) -> None:
    folder = clip_folder.parent / 'broken'
    folder.mkdir(exist_ok=True)
    for path in clip_folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(
            content[:400] if '07' in path.name else content
        )
    page = Page(server, server.new_session(folder))
    response = server.http.get(frame_address(page, 7))
    assert response.status_code == 422
    assert '00007' in response.json()['error']
    prompt_disc(page)
    assert page.track()['state'] == 'done'
    notices = page.texts('notice')
    assert any('Frame 7' in m['message'] for m in notices)
    assert page.texts('changed')[-1]['broken_frames'] == [7]
    page.close()


def test_stills_of_different_sizes_are_one_session(
    server: DemoServer, clip_folder: Path
) -> None:
    folder = clip_folder.parent / 'stills'
    folder.mkdir(exist_ok=True)
    for name, size in (('bird', (60, 40)), ('cat', (30, 80))):
        Image.new('RGB', size, (90, 120, 30)).save(folder / f'{name}.png')
    page = Page(server, server.new_session(folder))
    assert page.hello['session']['kind'] == 'images'
    assert page.hello['session']['sizes'] == [[40, 60], [80, 30]]
    assert page.hello['session']['frame_names'] == ['bird', 'cat']
    reply = prompt_disc(page, frame=0, box=[5, 5, 30, 30])
    (masks,) = page.masks_of(0)
    assert masks.size == (40, 60)
    assert reply['object'] in masks.codes
    assert page.ask('propagate', start=0)['type'] == 'error'
    page.close()


# Files -------------------------------------------------------------------------------


def wait_for_job(server: DemoServer, job: str) -> dict[str, Any]:
    """Wait for the end of a job."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        state: dict[str, Any] = server.http.get(f'/api/jobs/{job}').json()
        if state['state'] != 'running':
            return state
        time.sleep(0.02)
    pytest.fail('the job does not end')


def test_an_export_is_downloaded_and_imported_again(
    open_page: OpenPage, server: DemoServer, tmp_path: Path
) -> None:
    page = open_page()
    prompt_disc(page)
    page.track(stop=5)
    session = page.hello['session']['id']
    begun = server.http.post(
        f'/api/sessions/{session}/exports', json={'format': 'davis'}
    )
    assert begun.status_code == 202
    job = begun.json()['job']
    state = wait_for_job(server, job)
    assert state['state'] == 'done', state
    response = server.http.get(f'/api/jobs/{job}/file')
    assert response.headers['content-disposition'] == (
        'attachment; filename="disc_davis.zip"'
    )
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    masks = page.masks_of(*range(5))
    labels = sorted(tmp_path.rglob('*.png'))
    for frame, path in enumerate(labels[:5]):
        assert ((read_labels(path) == 1) == pixels(masks[frame].codes[1])).all()
    upload = server.http.post(
        '/api/uploads', params={'name': state['name']}, content=response.content
    ).json()['upload']
    other = open_page()
    imported = server.http.post(
        f'/api/sessions/{other.hello["session"]["id"]}/imports',
        json={'source': upload, 'format': None},
    )
    assert imported.json() == {'num_objects': 1}
    # A palette holds no mask that is empty.
    expected = [
        {k: c for k, c in m.codes.items() if count_encoded_pixels(c)} for m in masks
    ]
    assert any(expected)
    assert [m.codes for m in other.masks_of(*range(5))] == expected
    assert server.http.delete(f'/api/jobs/{job}').status_code == 204
    assert server.http.get(f'/api/jobs/{job}').status_code == 404


def test_films_and_stills_are_rendered(open_page: OpenPage, server: DemoServer) -> None:
    page = open_page()
    prompt_disc(page)
    page.track(stop=4)
    address = f'/api/sessions/{page.hello["session"]["id"]}'
    still = server.http.post(
        f'{address}/stills', json={'frame': 1, 'effect': {'name': 'cutout'}}
    )
    picture = np.asarray(Image.open(io.BytesIO(still.content)))
    (masks,) = page.masks_of(1)
    assert picture.shape == (*SIZE, 4)
    assert ((picture[..., 3] > 0) == pixels(masks.codes[1])).all()
    body = {'kind': 'gif', 'effect': {'name': 'overlay'}, 'start': 0, 'stop': 4}
    job = server.http.post(f'{address}/renders', json=body).json()['job']
    assert wait_for_job(server, job)['state'] == 'done'
    film = Image.open(io.BytesIO(server.http.get(f'/api/jobs/{job}/file').content))
    assert (film.n_frames, film.size) == (4, (120, 90))  # type: ignore[attr-defined]


def test_folders_are_listed_within_the_roots(
    server: DemoServer, clip_folder: Path
) -> None:
    listed = server.http.get('/api/browse').json()
    assert listed['path'] == str(clip_folder.parent.resolve())
    assert listed['parent'] is None
    kinds = {entry['name']: entry['kind'] for entry in listed['entries']}
    assert kinds['disc'] == 'frames'
    inside = server.http.get('/api/browse', params={'path': str(clip_folder)}).json()
    assert len(inside['entries']) == NUM_FRAMES
    assert inside['parent'] == listed['path']


def test_generated_clips_can_be_opened(server: DemoServer) -> None:
    info = server.http.get('/api/info').json()
    example = info['examples'][-1]  # the quickest to render
    session = server.new_session(f'example:{example["name"]}')
    assert server.state_of(session)['num_frames'] == example['num_frames']
    assert info['model']['name'] == 'sam2_mini'
    assert {'davis', 'coco'} <= {entry['name'] for entry in info['export_formats']}


# The life of sessions ----------------------------------------------------------------


def test_a_session_is_renamed_and_deleted(
    open_page: OpenPage, server: DemoServer
) -> None:
    page = open_page()
    session = page.hello['session']['id']
    address = f'/api/sessions/{session}'
    assert server.http.patch(address, json={'name': 'Ä & b'}).json()['name'] == 'Ä & b'
    assert server.state_of(session)['name'] == 'Ä & b'
    assert server.http.delete(address).status_code == 204
    with pytest.raises(Exception, match='4404'):
        page.ask('ping')
    assert server.http.delete(address).status_code == 404
    with pytest.raises(Exception, match='4404'):
        open_page(session)


def test_a_video_that_was_moved_is_found_again(
    server: DemoServer, clip_folder: Path
) -> None:
    folder = clip_folder.parent / 'before'
    shutil.copytree(clip_folder, folder)
    page = Page(server, server.new_session(folder))
    prompt_disc(page)
    (masks,) = page.masks_of(0)
    session = page.hello['session']['id']
    page.close()
    moved = folder.rename(clip_folder.parent / 'after')
    address = f'/api/sessions/{session}'
    wrong = server.http.patch(address, json={'source': str(clip_folder / '00000.jpg')})
    assert wrong.status_code == 422
    assert server.state_of(session)['state'] == 'missing video'
    assert server.http.patch(address, json={'source': str(moved)}).status_code == 200
    again = Page(server, session)
    assert again.masks_of(0)[0].codes == masks.codes
    again.close()
    shutil.rmtree(moved)


def test_a_session_that_another_server_has_open_is_not_deleted(
    tmp_path: Path, clip_folder: Path
) -> None:
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=tmp_path,
        roots=(clip_folder,),
    )
    with running_demo(options) as server, running_demo(options) as other:
        session = server.new_session(clip_folder)
        page = Page(server, session)
        prompt_disc(page)
        (before,) = page.masks_of(0)
        address = f'/api/sessions/{session}'
        answer = other.http.delete(address)
        assert answer.status_code == 409
        assert f'{session} is open in' in answer.json()['error']
        assert page.masks_of(0)[0].codes == before.codes
        assert server.http.delete(address).status_code == 204


def test_idle_sessions_leave_the_memory_and_come_back(
    tmp_path: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = DemoOptions(
        config=MINI_CONFIG,
        checkpoint=str(MINI_WEIGHTS),
        device='cpu',
        sessions=tmp_path,
        roots=(clip_folder,),
        idle_seconds=0.2,
    )
    sweeps: list[JobStore] = []

    def fail(jobs: JobStore) -> None:
        sweeps.append(jobs)
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(JobStore, 'remove_old', fail)
    with running_demo(options) as server:
        session = server.new_session(clip_folder)
        page = Page(server, session)
        prompt_disc(page)
        (before,) = page.masks_of(0)
        time.sleep(0.5)
        assert server.state_of(session)['state'] == 'open'  # the tab is there
        assert sweeps  # the server goes on after the error
        thumbnail = server.http.get(frame_address(page, 0, 'thumbs')).content
        page.close()
        end = time.monotonic() + WAIT
        while server.state_of(session)['state'] == 'open':
            assert time.monotonic() < end
            time.sleep(0.05)
        (known,) = server.http.get('/api/sessions').json()
        address = f'/api/sessions/{session}/thumbs/0.jpg?key={known["key"]}'
        assert server.http.get(address).content == thumbnail
        assert server.state_of(session)['state'] == 'closed'  # a list opens none
        again = Page(server, session)
        assert again.masks_of(0)[0].codes == before.codes
        assert again.hello['recovered'] is False
        again.close()
    # The server has ended; what it held was saved.
    threads = set(threading.enumerate())
    with running_demo(options) as server:
        assert server.state_of(session)['num_objects'] == 1
        assert server.state_of(session)['crashed'] is False
        unsaved, saved = (server.new_session(clip_folder) for _ in range(2))
        page = Page(server, saved)
        close = Annotator.close

        def close_on_full_disk(annotator: Annotator) -> None:
            close(annotator)
            if annotator.session_id == unsaved:
                raise OSError(28, 'No space left on device')

        monkeypatch.setattr(Annotator, 'close', close_on_full_disk)
    # One that cannot be saved keeps neither the others nor the threads.
    assert {info.state for info in list_sessions(tmp_path)} == {'closed'}
    left = set(threading.enumerate()) - threads
    assert not [thread for thread in left if thread.name == 'model']
    page.close()


def test_files_of_jobs_go_with_their_server(tmp_path: Path) -> None:
    mine, alive, dead = tmp_path / str(os.getpid()), tmp_path / '1', tmp_path / '0'
    for folder in (mine, alive, dead):
        (folder / 'job').mkdir(parents=True)
    jobs = JobStore(tmp_path)
    assert list(tmp_path.iterdir()) == [alive]
    job = jobs.start('a.txt', lambda target, _: target.write_text('a'))
    while job.ended is None:
        time.sleep(0.001)
    assert (mine / job.job_id / 'a.txt').read_text() == 'a'
    jobs.close()
    assert list(tmp_path.iterdir()) == [alive]


def test_the_oldest_idle_session_makes_room(
    open_page: OpenPage,
    server: DemoServer,
    clip_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = shutil.copytree(clip_folder, clip_folder.parent / 'oldest')
    oldest = server.new_session(other)
    page = open_page(oldest)
    key = page.hello['session']['key']
    page.close()

    def num_decoders() -> int:
        return sum(t.name.startswith('decode') for t in threading.enumerate())

    before = num_decoders()
    address = f'/api/sessions/{oldest}/frames/0.jpg?key={key}'
    assert server.http.get(address).status_code == 200
    assert num_decoders() == before + 1
    page = open_page()
    younger = server.new_session(clip_folder)
    states = {e['id']: e['state'] for e in server.http.get('/api/sessions').json()}
    num_open = list(states.values()).count('open')
    monkeypatch.setattr(hub, 'MAX_OPEN', num_open)
    # Sessions of earlier tests are older still.
    for _ in range(num_open - 2):
        server.new_session(clip_folder)
    assert server.state_of(oldest)['state'] == 'closed'
    assert server.state_of(younger)['state'] == 'open'
    assert num_decoders() <= before  # the reader of its video is gone as well
    assert page.ask('add_object')['type'] == 'done'


def test_a_session_stays_in_memory_until_training_has_read_it(
    server: DemoServer, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def start(runs: TrainingRuns, views: list[Any], **options: Any) -> str:
        del runs
        given.update(options, num_views=len(views))
        return 'run_1'

    monkeypatch.setattr(TrainingRuns, 'start', start)
    monkeypatch.setattr(hub, 'MAX_OPEN', 2)
    session = server.new_session(clip_folder)
    body = {'sessions': [session], 'name': 'a', 'epochs': 3}
    response = server.http.post('/api/training', json=body)
    assert (response.status_code, response.json()) == (202, {'run': 'run_1'})
    assert (given['num_views'], given['name'], given['epochs']) == (1, 'a', 3)

    def open_others() -> str:
        # As many as are open, so that each that is not in use is closed once.
        states = [entry['state'] for entry in server.http.get('/api/sessions').json()]
        for _ in range(max(2, states.count('open'))):
            server.new_session(clip_folder)
        return str(server.state_of(session)['state'])

    assert open_others() == 'open'
    given['on_read']()
    assert open_others() == 'closed'


def test_another_model_takes_over(open_page: OpenPage, server: DemoServer) -> None:
    page = open_page()
    prompt_disc(page)
    wrong = server.http.post('/api/models/use', json={'name': 'none'})
    assert wrong.status_code == 422
    models = server.http.get('/api/models').json()
    assert models['current']['name'] == 'sam2_mini'
    used = server.http.post('/api/models/use', json={'name': models['models'][-1]})
    assert used.status_code == 200
    page.wait_for(lambda m: is_type(m, 'model'))
    assert page.track(stop=3)['state'] == 'done'


def test_a_full_disk_is_told_and_loses_nothing(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    prompt_disc(page)
    (before,) = page.masks_of(0)

    def fill_disk(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as patched:
        patched.setattr(MaskLog, 'append', fill_disk)
        reply = page.ask('prompt', frame=3, object=None, points=[], box=BOX)
        assert reply['type'] == 'error'
        assert 'disk is full' in reply['message']
        page.ask('propagate', start=0)
        ended = page.end_of_pass()
        assert ended['state'] == 'failed'
        assert 'disk is full' in ended['message']
        notices = page.texts('notice')
        assert {m['level'] for m in notices} == {'error'}
    assert page.masks_of(0)[0].codes == before.codes
    assert objects_of(page) == ['1']
    assert page.track(stop=4)['state'] == 'done'


def test_an_unexpected_error_shows_no_stack(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise KeyError('/secret/path')

    monkeypatch.setattr(Annotator, 'add_object', fail)
    reply = page.ask('add_object')
    assert reply['type'] == 'error'
    assert 'KeyError' in reply['message']
    assert 'secret' not in json.dumps(reply)


# Malformed messages ------------------------------------------------------------------


def malformed(rng: random.Random) -> str | bytes:
    """A message that is damaged somewhere."""
    valid = json.dumps(
        rng.choice(
            [
                {
                    'request': 1,
                    'type': 'prompt',
                    'frame': 0,
                    'object': None,
                    'points': [[1, 2, 1]],
                    'box': None,
                },
                {'request': 2, 'type': 'delete_objects', 'objects': [1]},
                {'request': 3, 'type': 'merge_objects', 'objects': [1], 'into': 1},
                {
                    'request': 4,
                    'type': 'draw',
                    'frame': 0,
                    'object': None,
                    'mask': {'size': [90, 120], 'counts': 'PTX3'},
                },
                {'request': 5, 'type': 'accept_proposals', 'frame': 0, 'indices': [0]},
            ]
        )
    )
    match rng.randrange(7):
        case 0:
            return valid[: rng.randrange(len(valid))]
        case 1:
            return rng.randbytes(rng.randrange(1, 200))
        case 2:  # another type than the entry takes
            entries = json.loads(valid)
            key = rng.choice([k for k in entries if k != 'request'])
            entries[key] = rng.choice(
                [{}, [], [[]], -1, 1e308, 'x' * 300, [None], True]
            )
            return json.dumps(entries)
        case 3:
            entries = json.loads(valid)
            del entries[rng.choice([k for k in entries if k not in {'object'}])]
            return json.dumps(entries)
        case 4:
            return '[' * rng.randrange(1, 5000)
        case 5:
            return valid.replace('"', "'", rng.randrange(1, 4))
        case _:
            return json.dumps({'request': 9, 'type': 'undo', rng.choice('abc'): None})


def test_malformed_messages_change_nothing(open_page: OpenPage) -> None:
    """``MMSAM2_FUZZ=10000`` sends as many."""
    page = open_page()
    prompt_disc(page)
    (before,) = page.masks_of(0)
    session = page.hello['session']['id']
    rng = random.Random(0)
    number = int(os.environ.get('MMSAM2_FUZZ', '300'))
    for _ in range(number):
        page.socket.send(malformed(rng))
        answer = page.wait_for(lambda m: is_type(m, 'error') or is_type(m, 'done'))
        assert answer['type'] == 'error'
        assert 'Traceback' not in answer['message']
        assert 'An unexpected error' not in answer['message']
        page.received.clear()
    (after,) = page.masks_of(0)
    assert after == before
    assert open_page(session).hello['document']['order'] == [1]


def test_the_list_counts_the_objects_of_an_open_session(
    open_page: OpenPage, server: DemoServer
) -> None:
    page = open_page()
    session = page.hello['session']['id']
    assert server.state_of(session)['num_objects'] == 0
    page.ask('add_object')
    assert server.state_of(session)['num_objects'] == 1
