"""Training on what was annotated: the data, the states of a run, and whether it helps.

The whole loop with the small model takes some minutes, so it runs on demand::

    SAM2_DEMO_LOOP=1 python -m pytest -q -n0 -s tests/webdemo/test_training.py -k loop
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS

from demo_views import MadeView, generated_view, write_frames
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.sources.synthetic import SyntheticClip
from projects.sam2.evaluation.jf import boundary_f, region_similarity
from projects.sam2.installation import ROOT, WEIGHTS
from projects.sam2.ops import (
    center_error_points,
    decode_masks,
    encode_masks,
    write_atomically,
)
from projects.sam2.webdemo import training
from projects.sam2.webdemo.models import ModelChoice, ModelStore
from projects.sam2.webdemo.session.annotator import Annotator
from projects.sam2.webdemo.session.video import AnnotatedVideo
from projects.sam2.webdemo.training import TrainingRuns, write_data

MINI = ModelChoice(
    name='sam2_mini',
    config='_base_/models/sam2_1_mini.py',
    checkpoint=WEIGHTS / 'sam2_mini.pth',
)
ENDED = {'done', 'failed', 'stopped'}
runs_real_programs = pytest.mark.skipif(
    'SAM2_DEMO_LOOP' not in os.environ, reason='takes minutes; set SAM2_DEMO_LOOP=1'
)


def ignore(_share: float) -> None:
    """Progress that nobody watches."""


def wait_for(
    runs: TrainingRuns, fits: Callable[[dict[str, Any]], bool], *, seconds: float = 60
) -> dict[str, Any]:
    """Wait until the status of the latest run fits."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = runs.status()[0]
        if fits(status):
            return status
        time.sleep(0.02)
    pytest.fail(f'nothing happened in {seconds} s: {status}')


# Data --------------------------------------------------------------------------------


def test_the_data_set_holds_the_masks_that_were_annotated(tmp_path: Path) -> None:
    views = [generated_view(tmp_path / str(i) / 'clip', i) for i in range(2)]
    write_data(views, tmp_path / 'data', ignore)
    source = {'type': 'ClipPaletteDataset', 'data_root': str(tmp_path / 'data')}
    dataset: ClipDataset = DATASETS.build(source)
    assert sorted(dataset.list_videos()) == ['clip', 'clip_2']  # equal names
    for name, view in zip(('clip', 'clip_2'), views, strict=True):
        video = dataset.open_video(name)
        assert video.annotated_frames() == tuple(range(10))
        for frame, labels in view.labels.items():
            masks = video.read_masks(frame)
            assert masks is not None
            read = np.zeros_like(labels)
            for object_id, mask in zip(masks.object_ids, masks.masks, strict=True):
                read[mask] = object_id
            np.testing.assert_array_equal(read, labels)
            difference = video.read_frame(frame).astype(int) - view.video.read(frame)
            assert np.abs(difference).mean() < 4  # of JPEG


def test_a_frame_on_which_an_object_was_not_tracked_is_left_out(
    tmp_path: Path,
) -> None:
    """The model would learn that the object is absent there."""
    write_frames(tmp_path / 'clip', np.zeros((7, 8, 9, 3), np.uint8))
    labels = {frame: np.zeros((8, 9), np.uint8) for frame in range(6)}  # none on 6
    for frame in range(6):
        labels[frame][1:4, 1:4] = 1
    for frame in (2, 4):
        labels[frame][5:7, 5:8] = 2
    # Object 2 enters on frame 2 and leaves after frame 4; on frame 3 it was forgotten.
    missing = frozenset({(2, 0), (2, 1), (2, 3), (2, 5)})
    view = MadeView(AnnotatedVideo(tmp_path / 'clip'), labels, missing=missing)
    write_data([view], tmp_path / 'data', ignore)
    source = {'type': 'ClipPaletteDataset', 'data_root': str(tmp_path / 'data')}
    video = DATASETS.build(source).open_video('clip')
    assert video.annotated_frames() == (0, 1, 2, 4, 5)
    masks = video.read_masks(4)
    assert masks is not None
    assert masks.object_ids == (1, 2)


def test_images_become_a_coco_file_of_those_with_masks(tmp_path: Path) -> None:
    view = generated_view(tmp_path / 'photos', 1)
    labels = {frame: view.labels[frame] for frame in (1, 4, 6)}
    images = MadeView(AnnotatedVideo(tmp_path / 'photos', 'images'), labels)
    write_data([images], tmp_path / 'data', ignore)
    dataset: ClipDataset = DATASETS.build(
        {
            'type': 'ClipCocoDataset',
            'data_root': str(tmp_path / 'data'),
            'annotation_file': 'annotations/instances.json',
            'image_folder': 'images',
        }
    )
    names = sorted(dataset.list_videos())
    assert len(names) == 3
    for name, wanted in zip(names, labels.values(), strict=True):
        masks = dataset.open_video(name).read_masks(0)
        assert masks is not None
        assert {mask.tobytes() for mask in masks.masks} == {
            (wanted == i).tobytes() for i in np.unique(wanted) if i
        }


def test_what_cannot_be_trained_on_is_explained(tmp_path: Path) -> None:
    view = generated_view(tmp_path / 'clip')
    images = MadeView(AnnotatedVideo(tmp_path / 'clip', 'images'), view.labels)
    with pytest.raises(ValueError, match=r'videos and images .* choose one kind'):
        write_data([view, images], tmp_path / 'data', ignore)
    few = MadeView(view.video, {0: view.labels[0]})
    with pytest.raises(ValueError, match='clip: 1 frames can be trained on'):
        write_data([few], tmp_path / 'data', ignore)
    assert not (tmp_path / 'data').exists()


# States of a run, with programs that do nothing --------------------------------------

CONFIG_TEXT = """
load_from = 'sam2_mini.pth'  # comes with mmsam2; or None
train_cfg = dict(max_epochs=20, val_interval=2)  # 3 steps each
"""
PROGRAMS = {
    'new.py': f"""
import pathlib, sys
project = pathlib.Path(sys.argv[1])
project.mkdir()
(project / 'config.py').write_text({CONFIG_TEXT!r})
print(*sys.argv[2:])
""",
    'check_dataset.py': 'print("No problems")',
    'test.py': """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[4]) / '20260101_000000'
folder.mkdir(parents=True)
(folder / '20260101_000000.json').write_text(json.dumps({'J&F': 41.5, 'time': 0.1}))
(folder / 'run.json').write_text('{"J&F": 1}')
""",
    'train.py': """
import json, os, pathlib, sys, time
work_dir = pathlib.Path(sys.argv[1]).parent / 'work_dir'
log = work_dir / 'now' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
work_dir.parent.parent.joinpath('cuda').write_text(os.environ['CUDA_VISIBLE_DEVICES'])
for epoch in (1, 2):
    with log.open('a') as file:
        for step in (1, 2, 3):
            number = 3 * (epoch - 1) + step
            record = {'loss': 1 / number, 'iter': number, 'step': number}
            file.write(json.dumps(record) + '\\n')
        file.write(json.dumps({'J&F': 50 + epoch, 'step': epoch}) + '\\n')
    for name in (f'best_JF_epoch_{epoch}', f'epoch_{epoch}'):
        (work_dir / f'{name}.pth').write_bytes(b'')
        time.sleep(0.01)
    (work_dir / '.epoch_9.partial.pth').write_bytes(b'')
    if epoch == 1:
        (work_dir / 'best_JF_epoch_1.pth').unlink()
    while work_dir.parent.parent.parent.joinpath('wait').exists():
        time.sleep(0.01)
""",
}


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that do nothing but write what the real ones do."""
    folder = tmp_path / 'programs'
    folder.mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(training, 'TOOLS', folder)
    return folder


@pytest.fixture
def runs(tmp_path: Path, stand_ins: Path) -> Iterator[TrainingRuns]:
    del stand_ins
    (tmp_path / 'runs').mkdir()
    made = TrainingRuns(tmp_path / 'runs', device='cpu')
    yield made
    made.close()


@pytest.fixture
def view(tmp_path: Path) -> MadeView:
    return generated_view(tmp_path / 'clip')


def test_a_run_goes_through_its_steps_and_offers_its_checkpoints(
    runs: TrainingRuns,
    view: MadeView,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = runs.start([view], name='My run: 1/2', epochs=2, model=MINI)
    status = wait_for(runs, lambda s: s['state'] in ENDED)
    assert (status['run'], status['name']) == (run, 'My run: 1/2')
    assert (status['state'], status['progress']) == ('done', 1.0)
    assert status['curves'] == {
        'loss': [[n, pytest.approx(1 / n)] for n in range(1, 7)],
        'J&F': [[0, 41.5], [1, 51.0], [2, 52.0]],
    }
    assert status['checkpoints'] == ['epoch_1', 'best_JF_epoch_2', 'epoch_2']
    assert status['best'] == 'best_JF_epoch_2'
    folder = tmp_path / 'runs' / run
    model = runs.model(f'{run}/best_JF_epoch_2')
    assert model.name == f'run:{run}/best_JF_epoch_2'
    assert model.config == str(folder / 'project' / 'config.py')
    assert runs.best_models() == [model]
    with pytest.raises(ValueError, match=r"no checkpoint 'epoch_9'; it has epoch_1"):
        runs.model(f'{run}/epoch_9')
    config = (folder / 'project' / 'config.py').read_text()
    assert f'load_from = {str(MINI.checkpoint)!r}\n' in config
    assert 'train_cfg = dict(max_epochs=2, val_interval=1)  # 3 steps each\n' in config
    log = (folder / 'train.log').read_text()
    assert f'--from {folder / "data"} --size mini' in log
    assert log.count('No problems') == 1
    assert (folder / 'cuda').read_text() == ''  # the server runs on the CPU
    # Logs of an ended run are not read again each second.
    with monkeypatch.context() as patch:
        patch.setattr(training, 'read_records', None)
        assert runs.status() == [status]
    # A server that is started later knows the run.
    again = TrainingRuns(tmp_path / 'runs', device='cpu')
    assert again.status() == runs.status()
    assert again.start([view], name='My run: 1/2') != run
    assert again.status()[1]['run'] == run
    again.close()


def test_one_run_is_at_work_and_can_be_stopped(
    runs: TrainingRuns, view: MadeView, tmp_path: Path
) -> None:
    (tmp_path / 'runs' / 'wait').touch()
    run = runs.start([view], name='first', epochs=2)
    status = wait_for(runs, lambda s: s['checkpoints'] == ['epoch_1'])
    assert status['state'] == 'running'
    assert status['progress'] == pytest.approx(0.5)
    with pytest.raises(ValueError, match='first is training; stop it first'):
        runs.start([view], name='second')
    process = json.loads((tmp_path / 'runs' / run / 'run.json').read_text())['process']
    # A second server with the same folder leaves it alone.
    second = TrainingRuns(tmp_path / 'runs', device='cpu')
    assert second.status() == []
    second.close()
    os.killpg(process, 0)  # it is there
    runs.stop(run)
    status = wait_for(runs, lambda s: s['state'] in ENDED, seconds=10)
    assert (status['state'], status['message']) == ('stopped', 'stopped by the user')
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)
    assert status['checkpoints'] == ['epoch_1']
    assert status['best'] == 'epoch_1'
    with pytest.raises(ValueError, match='first has ended'):
        runs.stop(run)
    with pytest.raises(ValueError, match="no training run 'other'"):
        runs.stop('other')
    (tmp_path / 'runs' / 'wait').unlink()
    runs.start([view], name='second', epochs=2)
    assert wait_for(runs, lambda s: s['state'] in ENDED)['state'] == 'done'


def test_a_program_that_ignores_the_stop_is_killed(
    runs: TrainingRuns,
    view: MadeView,
    stand_ins: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, 'CLOSE_SECONDS', 0.3)
    text = 'import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
    text += 'print("up", flush=True)\ntime.sleep(99)'
    (stand_ins / 'train.py').write_text(text)
    run = runs.start([view], name='stubborn')
    log = runs.folder / run / 'train.log'
    wait_for(runs, lambda _: log.exists() and '\nup\n' in log.read_text())
    begin = time.monotonic()
    runs.close()
    assert time.monotonic() - begin < 5
    assert runs.status()[0]['state'] == 'stopped'


@pytest.mark.parametrize('program', ['new.py', 'check_dataset.py', 'train.py'])
def test_a_run_that_fails_shows_the_last_lines_of_the_program(
    runs: TrainingRuns, view: MadeView, stand_ins: Path, program: str
) -> None:
    (stand_ins / program).write_text(
        'import sys\nprint("\\n".join(f"line {n}\\n" for n in range(20)))\n'
        'sys.exit("The disk is full\\n")'
    )
    runs.start([view], name='bad')
    status = wait_for(runs, lambda s: s['state'] in ENDED)
    assert status['state'] == 'failed'
    first, *others = status['message'].splitlines()
    assert first == f'{program} failed (exit code 1): line 15'
    assert others == ['line 16', 'line 17', 'line 18', 'line 19', 'The disk is full']
    assert status['progress'] < 1


def test_data_that_cannot_be_written_fail_the_run(
    runs: TrainingRuns, view: MadeView
) -> None:
    read: list[bool] = []
    runs.start(
        [MadeView(view.video, {})], name='empty', on_read=lambda: read.append(True)
    )
    status = wait_for(runs, lambda s: s['state'] in ENDED)
    assert status['state'] == 'failed'
    assert 'clip: 0 frames can be trained on' in status['message']
    assert read == [True]
    assert status['curves'] == {'loss': [], 'J&F': []}
    assert status['best'] is None
    assert runs.best_models() == []


def test_any_name_gives_a_folder_among_the_runs(
    runs: TrainingRuns, view: MadeView
) -> None:
    unmarked = MadeView(view.video, {})  # fails at once, without a program
    folders = set()
    for name in ('../../up', '..', '', '<b>x</b>', 'ä b', 'ä b', 'a' * 999):
        run = runs.start([unmarked], name=name, epochs=1)
        folders.add(run)
        wait_for(runs, lambda s: s['state'] in ENDED)
        assert {path.name for path in runs.folder.iterdir()} == folders
        assert (runs.folder / run / 'run.json').is_file()
    assert len(folders) == 7


def test_a_full_disk_starts_no_run_and_leaves_no_program(
    runs: TrainingRuns, view: MadeView, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_from = 1

    def write_until_full(path: Path, content: str) -> None:
        nonlocal full_from
        full_from -= 1
        if full_from <= 0:
            raise OSError(28, 'No space left on device')
        write_atomically(path, content)

    monkeypatch.setattr(training, 'write_atomically', write_until_full)
    with pytest.raises(OSError, match='No space left'):
        runs.start([view], name='first')
    assert runs.status() == []
    full_from = 4  # when the id of the second program is noted
    runs.start([view], name='second')
    status = wait_for(runs, lambda s: s['state'] in ENDED)
    assert status['state'] == 'failed'
    assert 'No space left' in status['message']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'size': 'huge'}, "size must be one of mini, .*, not 'huge'"),
        ({'epochs': 0}, 'epochs must be a number from 1 to 1000, not 0'),
        ({'size': 'large'}, r'sam2\.1_hiera_large.* run: mmsam2 download'),
        ({'views': []}, 'no session is chosen'),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    runs: TrainingRuns,
    view: MadeView,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(training, 'find_file', lambda _: None)
    with pytest.raises(ValueError, match=message):
        runs.start(**{'views': [view], 'name': 'a', 'model': MINI, **options})
    assert runs.status() == []
    assert list(runs.folder.iterdir()) == []


def test_a_run_of_a_killed_server_is_ended_and_marked(
    runs: TrainingRuns, tmp_path: Path
) -> None:
    folder = runs.folder / 'old'
    folder.mkdir()
    command = [
        sys.executable,
        '-c',
        'import time; print(1, flush=True); time.sleep(99)',
    ]
    orphan, other = (
        subprocess.Popen(
            [*command, *names], start_new_session=True, stdout=subprocess.PIPE
        )
        for names in ([str(folder)], [])
    )
    for process in (orphan, other):
        assert process.stdout is not None
        process.stdout.readline()  # the system shows its command line by now
    try:
        for run, process in (('old', orphan), ('older', other)):
            fields = {
                'run': run,
                'name': run,
                'state': 'running',
                'size': 'mini',
                'epochs': 1,
                'start_from': 'a.pth',
                'process': process.pid,
            }
            path = tmp_path / 'runs' / run / 'run.json'
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(fields))
        (tmp_path / 'runs' / 'damaged').mkdir()
        (tmp_path / 'runs' / 'damaged' / 'run.json').write_text('{"run": ')
        found = TrainingRuns(tmp_path / 'runs', device='cpu').status()
        states = {status['run']: status['state'] for status in found}
        assert states == {'old': 'stopped', 'older': 'stopped'}
        assert orphan.wait(timeout=10) == -signal.SIGKILL
        assert other.poll() is None  # its id is used by another program now
    finally:
        for process in (orphan, other):
            process.kill()
            process.communicate()


# The real programs -------------------------------------------------------------------


class ShortRuns(TrainingRuns):
    """Runs of a few steps."""

    def _run_tool(self, run: str, tool: str, *words: str | Path) -> None:
        if tool == 'train.py':
            shown = 'train_dataloader.dataset.datasets'
            few = (f'{shown}.0.times=1', f'{shown}.1.num_clips=1')
            words = (*words, '--cfg-options', *few)
        super()._run_tool(run, tool, *words)


@pytest.mark.slow
@pytest.mark.timeout(600)
@runs_real_programs
def test_a_short_run_trains_the_running_model_and_its_checkpoint_loads(
    tmp_path: Path,
) -> None:
    views = [generated_view(tmp_path / f'clip{i}', i) for i in range(2)]
    runs = ShortRuns(tmp_path / 'runs', device='cpu')
    run = runs.start(views, name='short', epochs=1, model=MINI)
    status = wait_for(runs, lambda s: s['state'] in ENDED, seconds=580)
    assert status['state'] == 'done', status['message']
    (_, before), (_, after) = status['curves']['J&F']
    assert 0 < before < 100
    assert 0 < after < 100
    log = (tmp_path / 'runs' / run / 'train.log').read_text()
    assert log.count('No problems') == 1
    store = ModelStore(device='cpu', find_run=runs.model)
    old = store.predictor.model.state_dict()
    new = store.use(f'run:{run}/{status["best"]}').model.state_dict()
    changed = [key for key, value in new.items() if not torch.equal(value, old[key])]
    assert len(changed) > len(new) / 2
    assert not any(torch.isnan(value).any() for value in new.values())


# The loop: annotate, train, annotate better ------------------------------------------


def mean_iou(annotator: Annotator, labels: Any, ids: dict[int, int]) -> float:
    """Mean IoU of the masks of a session, over all frames that show an object."""
    ious = []
    for frame, truth in enumerate(labels):
        for label, object_id in ids.items():
            mask = annotator.mask(object_id, frame)
            if mask is not None and (truth == label).any():
                pixels = decode_masks([mask.code])[0]
                ious.append(region_similarity(pixels, truth == label))
    return float(np.mean(ious))


def annotate(annotator: Annotator, labels: Any) -> dict[int, int]:
    """Annotate frame by frame, as a person with a weak model does.

    Objects are prompted with boxes and tracked to the next frame; masks with an IoU
    below 0.8 are corrected by up to three clicks, and by the brush where that fails.

    Returns:
        Id of the object for each label.
    """
    ids: dict[int, int] = {}
    for frame in range(len(labels)):
        for label in range(1, int(labels[0].max()) + 1):
            truth = labels[frame] == label
            points: list[tuple[float, float, int]] = []
            if label not in ids:
                rows, columns = np.nonzero(truth)
                left, right = float(columns.min()), float(columns.max())
                top, bottom = float(rows.min()), float(rows.max())
                box = (left, top, right, bottom)
                (ids[label],) = annotator.prompt(frame, None, (), box).created
            for _ in range(3):
                if is_good(annotator, frame, ids[label], truth):
                    break
                points.append(click(annotator, frame, ids[label], truth))
                annotator.prompt(frame, ids[label], points, None)
            if not is_good(annotator, frame, ids[label], truth):
                annotator.draw(frame, ids[label], encode_masks(truth[None])[0])
        if frame + 1 < len(labels):
            for _ in annotator.propagate(None, frame, frame + 2, 'forward'):
                pass
    return ids


def is_good(annotator: Annotator, frame: int, object_id: int, truth: Any) -> bool:
    """Whether a mask is left as it is; absence has to be found as well."""
    mask = annotator.mask(object_id, frame)
    assert mask is not None
    pixels = decode_masks([mask.code])[0]
    return region_similarity(pixels, truth) >= 0.8 or not (pixels.any() or truth.any())


def click(
    annotator: Annotator, frame: int, object_id: int, truth: Any
) -> tuple[float, float, int]:
    """A click in the middle of the largest error."""
    mask = annotator.mask(object_id, frame)
    assert mask is not None
    pixels = decode_masks([mask.code])
    point = center_error_points(
        torch.from_numpy(truth)[None, None], torch.from_numpy(pixels)[None]
    )
    x, y = point.coords[0, 0].tolist()
    return x, y, int(point.labels[0, 0])


def jf_of(predictor: SAM2VideoPredictor, clip: SyntheticClip) -> float:
    """J&F in percent of tracking the first masks of a clip, over its other frames."""
    state = predictor.init_state(clip.frames)
    for label in range(1, clip.num_objects + 1):
        predictor.add_new_mask(state, 0, label, clip.labels[0] == label)
    scores = []
    for result in predictor.propagate_in_video(state):
        truth = clip.labels[result.frame_index]
        masks = (result.mask_logits[:, 0] > 0).cpu().numpy()
        if result.frame_index:
            for label, mask in zip(result.object_ids, masks, strict=True):
                pair = (mask, truth == label)
                scores.append((region_similarity(*pair) + boundary_f(*pair)) / 2)
    return 100 * float(np.mean(scores))


def say(text: str) -> None:
    """Show a figure under ``pytest -s``."""
    print(f'\n{text}', end='')  # noqa: T201


def bright_clips() -> list[SyntheticClip]:
    """Three clips of dark cells on a bright ground; the small model knows the reverse.

    They are those of the notebook on fine-tuning.
    """
    path = ROOT / 'docs' / 'notebooks' / 'cells.py'
    spec = importlib.util.spec_from_file_location('cells', path)
    assert spec is not None
    assert spec.loader is not None
    cells = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cells)
    clips = []
    for seed in range(3):
        frames, labels = cells.draw_clip(seed, bright_field=True)
        clip = SyntheticClip(
            frames=frames,
            labels=labels,
            num_objects=int(labels[0].max()),
            like_texture=False,
            returning_ids=(),
        )
        clips.append(clip)
    return clips


@pytest.mark.slow
@pytest.mark.timeout(3600)
@runs_real_programs
def test_the_loop_annotate_train_annotate_ends_with_a_better_model(
    tmp_path: Path,
) -> None:
    first, second, third = bright_clips()
    runs = TrainingRuns(tmp_path / 'runs', device='cpu')
    store = ModelStore(device='cpu', find_run=runs.model)
    annotators = []
    for name, clip in (('first', first), ('second', second)):
        write_frames(tmp_path / name, clip.frames)
        video = AnnotatedVideo(tmp_path / name)
        folder = tmp_path / 'sessions' / name
        annotator = Annotator.create(folder, video, store.predictor, name=name)
        ids = annotate(annotator, clip.labels)
        say(f'{name} clip annotated: IoU {mean_iou(annotator, clip.labels, ids):.3f}')
        annotators.append(annotator)
    before = jf_of(store.predictor, third)
    say(f'J&F on the third clip before training: {before:.1f}')
    run = runs.start(annotators, name='loop', epochs=3, model=store.current)
    begin = time.monotonic()
    status = wait_for(runs, lambda s: s['state'] in ENDED, seconds=3500)
    assert status['state'] == 'done', status['message']
    log = (tmp_path / 'runs' / run / 'train.log').read_text()
    assert log.count('No problems') == 1
    trained = store.use(f'run:{run}/{status["best"]}')
    for annotator in annotators:
        annotator.use_predictor(trained)
        annotator.close()
    after = jf_of(trained, third)
    seconds = time.monotonic() - begin
    say(f'J&F on the third clip after training ({seconds:.0f} s): {after:.1f}')
    say(f'J&F on the clip that the run holds out: {status["curves"]["J&F"]}')
    assert after > before
