"""The quickstart's path in miniature: train, validate, keep the best, draw, score."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from end_to_end_runs import (
    CONFIG,
    IN_PROCESS,
    SMALLER,
    logged_metrics,
    write_clips,
)
from engine_toys import load
from tool_modules import load_tool

EPOCHS = 6
SETTINGS: dict[str, Any] = {
    **SMALLER,
    **IN_PROCESS,
    'train_cfg.max_epochs': EPOCHS,
    'train_cfg.val_interval': 3,
    'optim_wrapper.optimizer.lr': 0.003,
    # Masks that are not empty, and so scores, after few steps.
    'model.loss.dice_weight': 5.0,
    # Steps whose losses can be compared.
    'model.prompt_simulator.point_probability': 0.0,
    'model.prompt_simulator.num_conditioning_frames': (1, 1),
    'log_processor.window_size': 1,
}


class Finished(NamedTuple):
    """What the command lines left."""

    work_dir: Path
    words: list[str]

    def best(self) -> Path:
        """The one best checkpoint."""
        (path,) = self.work_dir.glob('best_JF_*.pth')
        return path

    def files(self, pattern: str) -> list[Path]:
        """What lies beside the logs."""
        return sorted(self.work_dir.glob(f'*_*/vis_data/{pattern}'))


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Four clips trained on and two validated on by ``tools/train.py``."""
    folder = tmp_path_factory.mktemp('quickstart')
    clips = write_clips(folder / 'clips', train=4, val=2)
    changes = [f'{key}={value}' for key, value in SETTINGS.items()]
    words = ['--cfg-options', f'data_root={clips}', *changes]
    work_dir = folder / 'run'
    load_tool('train').main([CONFIG, '--work-dir', str(work_dir), *words])
    return Finished(work_dir, words)


@pytest.fixture(scope='module')
def events(run: Finished) -> Any:
    """TensorBoard's view of the run."""
    (path,) = run.files('events.out.tfevents.*')
    accumulator: Any = EventAccumulator(str(path))  # type: ignore[no-untyped-call]
    return accumulator.Reload()


def test_loss_falls(events: Any) -> None:
    losses = [event.value for event in events.Scalars('loss')]
    assert len(losses) == 2 * EPOCHS
    assert np.mean(losses[-2:]) < 0.8 * np.mean(losses[:2])


def test_best_checkpoint_is_from_the_best_validation(
    run: Finished,
    events: Any,
) -> None:
    scores = [event.value for event in events.Scalars('J&F')]
    assert len(scores) == 2
    assert max(scores) > 0
    epoch = 3 * (1 + int(np.argmax(scores)))
    assert run.best().name == f'best_JF_epoch_{epoch}.pth'
    last = load(Path((run.work_dir / 'last_checkpoint').read_text()))
    best_score = last['message_hub']['runtime_info']['best_score']
    assert best_score == pytest.approx(max(scores), rel=1e-6)


def test_testing_the_best_checkpoint_gives_the_logged_score(
    run: Finished, tmp_path: Path
) -> None:
    options = ['--work-dir', str(tmp_path), *run.words]
    metrics = load_tool('test').main([CONFIG, str(run.best()), *options])
    saved = load(run.best())['message_hub']['runtime_info']['best_score']
    assert metrics['J&F'] == saved
    assert logged_metrics(tmp_path) == {key: metrics[key] for key in ('J&F', 'J', 'F')}


def test_overlay_videos_can_be_played(run: Finished) -> None:
    videos = run.files('clips/*.mp4')
    # Both clips, at both validations.
    assert len(videos) == 4
    for path in videos:
        frames = list(decoded(path))
        assert len(frames) == 8
        assert all(frame.std() > 10 for frame in frames)
        changes = [np.abs(a - b).mean() for a, b in pairwise(frames)]
        assert min(changes) > 0.1


def decoded(path: Path) -> Iterator[np.ndarray[Any, np.dtype[np.float64]]]:
    """Frames of a video."""
    capture = cv2.VideoCapture(str(path))
    while True:
        is_read, frame = capture.read()
        if not is_read:
            break
        yield frame.astype(np.float64)
    capture.release()


def test_strips_and_videos_are_on_disk_and_in_tensorboard(
    run: Finished,
    events: Any,
) -> None:
    strips = run.files('clips/*.png')
    assert [path.stem for path in strips] == [
        path.stem for path in run.files('clips/*.mp4')
    ]
    for path in strips:
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.std() > 10
    names = {'clips/val_00000', 'clips/val_00001'}
    videos = {f'{name}/video' for name in names}
    assert set(events.Tags()['images']) == names | videos
