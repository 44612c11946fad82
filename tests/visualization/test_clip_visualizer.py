"""The registered visualizer: files, strips and videos in TensorBoard and WandB."""

import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mmengine.registry import VISUALIZERS
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from memory_videos import MemoryVideo, true_masklets
from projects.sam2.structures import Masklets
from projects.sam2.visualization import ClipVisualizer, Overlay, draw_overlay
from projects.sam2.visualization.clip_visualizer import write_png


def build(save_dir: Path, *backends: str) -> ClipVisualizer:
    config: dict[str, Any] = {
        'type': 'ClipVisualizer',
        'name': str(save_dir),  # instances of one name are one
        'save_dir': str(save_dir),
        'vis_backends': [{'type': name} for name in backends],
    }
    built: ClipVisualizer = VISUALIZERS.build(config)
    return built


@pytest.fixture
def video() -> MemoryVideo:
    return MemoryVideo(name='set/squares')


def test_strip_and_video_are_written(tmp_path: Path, video: MemoryVideo) -> None:
    folder = tmp_path / 'clips'
    files = build(tmp_path).write_clip(
        video, true_masklets(video), folder=folder, step=7
    )
    assert [path.name for path in files] == ['set_squares_7.png', 'set_squares_7.mp4']
    assert set(folder.iterdir()) == set(files)
    assert all(path.stat().st_size > 1000 for path in files)


def test_title_is_the_videos_name_if_none_is_given(
    tmp_path: Path, video: MemoryVideo
) -> None:
    visualizer = build(tmp_path)
    masklets = true_masklets(video)
    strip = visualizer.draw_strip(video, masklets)
    assert np.array_equal(
        strip, visualizer.draw_strip(video, masklets, title='set/squares')
    )
    assert not np.array_equal(strip, visualizer.draw_strip(video, masklets, title='x'))


def test_video_without_a_frame_is_passed_over(
    tmp_path: Path, video: MemoryVideo
) -> None:
    nothing = Masklets(frames=())
    assert not build(tmp_path).write_clip(video, nothing, folder=tmp_path, step=1)
    assert not list(tmp_path.iterdir())


def test_still_has_no_video(tmp_path: Path, video: MemoryVideo) -> None:
    visualizer = build(tmp_path, 'TensorboardVisBackend')
    still = true_masklets(video, (0,))
    files = visualizer.write_clip(video, still, folder=tmp_path / 'clips', step=7)
    assert [path.name for path in files] == ['set_squares_7.png']
    assert list((tmp_path / 'clips').iterdir()) == list(files)
    visualizer.add_strips(tmp_path / 'clips', 7)
    visualizer.close()


def test_strips_and_videos_of_a_step_reach_tensorboard_and_lie_on_disk_once(
    tmp_path: Path, video: MemoryVideo
) -> None:
    visualizer = build(tmp_path, 'LocalVisBackend', 'TensorboardVisBackend')
    folder = tmp_path / 'clips'
    for step in (3, 13):
        visualizer.write_clip(video, true_masklets(video), folder=folder, step=step)
    visualizer.add_strips(folder, 3)
    visualizer.close()
    # TensorBoard has no annotations.
    events: Any = EventAccumulator(str(tmp_path / 'vis_data'))  # type: ignore[no-untyped-call]
    events.Reload()
    names = ['clips/set_squares', 'clips/set_squares/video']
    assert sorted(events.Tags()['images']) == names
    for name in names:
        assert [event.step for event in events.Images(name)] == [3]
    moving = Image.open(BytesIO(events.Images(names[1])[0].encoded_image_string))
    assert moving.n_frames == video.num_frames  # type: ignore[attr-defined]  # a GIF
    assert len(list(tmp_path.rglob('*.png'))) == 2


class _WandB(ModuleType):
    """As much of wandb as MMEngine's backend calls."""

    def __init__(self) -> None:
        super().__init__('wandb')
        self.logged: dict[str, Any] = {}
        self.run = self

    def init(self, **options: object) -> '_WandB':
        """Begin a run."""
        del options
        return self

    def Image(self, picture: np.ndarray) -> np.ndarray:  # noqa: N802  its name
        """Wrap a picture."""
        return picture

    def Video(self, path: str, **options: object) -> str:  # noqa: N802  its name
        """Wrap a video."""
        del options
        return path

    def log(self, entries: dict[str, Any], **options: object) -> None:
        """Keep what is logged."""
        del options
        self.logged |= entries

    def join(self) -> None:
        """End the run."""


def test_strips_and_videos_reach_wandb(
    tmp_path: Path, video: MemoryVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = _WandB()
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    visualizer = build(tmp_path, 'WandbVisBackend')
    folder = tmp_path / 'clips'
    visualizer.write_clip(video, true_masklets(video), folder=folder, step=3)
    visualizer.add_strips(folder, 3)
    visualizer.close()
    (path,) = folder.glob('*.png')
    assert list(wandb.logged) == ['clips/set_squares', 'clips/set_squares/video']
    assert wandb.logged['clips/set_squares/video'] == str(path.with_suffix('.mp4'))
    strip = np.asarray(Image.open(path))
    assert np.array_equal(wandb.logged['clips/set_squares'], strip)


def test_drawn_frame_is_what_the_visualizer_shows(tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    mask = np.zeros((1, 48, 80), dtype=bool)
    mask[0, 10:30, 20:60] = True
    overlay = Overlay(object_ids=(1,), masks=mask)
    visualizer = build(tmp_path)
    picture = visualizer.draw_frame(frame, overlay, long_side=160)
    assert np.array_equal(picture, draw_overlay(frame, overlay, long_side=160))
    assert np.array_equal(visualizer.get_image(), picture)


def test_png_comes_back_in_its_colours(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    write_png(tmp_path / 'a' / 'strip.png', picture)
    stored = np.asarray(Image.open(tmp_path / 'a' / 'strip.png'))
    assert np.array_equal(stored, picture)
