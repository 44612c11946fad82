"""The registered inferencer: from files to files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import INFERENCERS

from inference_cases import (
    CONFIG,
    small_inferencer,
    write_clip,
    write_images,
    write_weights,
)
from projects.sam2.apis import InferenceResult, ObjectPrompt, SAM2Inferencer
from projects.sam2.ops import decode_masks
from toy_videos import SIZE, toy_frames

BOX = ObjectPrompt(box=(4, 4, 20, 18))


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory: pytest.TempPathFactory) -> SAM2Inferencer:
    """Of the small model."""
    return small_inferencer(tmp_path_factory.mktemp('model'))


def test_folder_of_images_becomes_overlays_and_masks(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / 'in', ['a.jpg', 'a.png', 'b.png'])
    out = tmp_path / 'out'
    found = inferencer(folder, prompts=[BOX], out_dir=out)
    names = [result.name for result in found['predictions']]
    assert names == ['a', 'a_2', 'b']  # no file is written over another
    for name in names:
        picture = cv2.imread(str(out / 'vis' / f'{name}.png'))
        assert picture is not None
        assert picture.shape == (384, 640, 3)
        labels = cv2.imread(str(out / 'pred' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        assert labels is not None
        assert labels.shape[:2] == SIZE
        assert (out / 'pred' / f'{name}.json').is_file()
    assert found['visualization'] == [[], [], []]


def test_video_becomes_a_film_and_nothing_is_drawn_unasked(
    inferencer: SAM2Inferencer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = write_clip(tmp_path / 'film.mp4', 5)
    found = inferencer(film, prompts=[BOX], max_frames=3, out_dir=tmp_path / 'out')
    (result,) = found['predictions']
    assert isinstance(result, InferenceResult)
    assert [frame.frame_index for frame in result.frames] == [0, 1, 2]
    assert decode_masks(result.frames[0].masks).shape == (1, *SIZE)
    drawn = cv2.VideoCapture(str(tmp_path / 'out' / 'vis' / 'film.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    monkeypatch.setattr(inferencer, 'visualize', None)
    inferencer(film, prompts=[BOX], max_frames=1)


def test_id_that_no_file_can_hold_is_refused_before_there_are_masks(
    inferencer: SAM2Inferencer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [ObjectPrompt(object_id=70_000, box=(10, 5, 60, 40))]
    given: dict[str, Any] = {'prompts': prompts, 'out_dir': tmp_path}
    found = inferencer(toy_frames(1)[0], **given, pred_formats=['json'])
    assert found['predictions'][0].frames[0].object_ids == (70_000,)
    monkeypatch.setattr(inferencer, 'predictors', None)
    with pytest.raises(ValueError, match='Object 70000 does not fit into png'):
        inferencer(toy_frames(1)[0], **given)


def test_pictures_are_returned_and_shown(
    inferencer: SAM2Inferencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[tuple[np.ndarray, dict[str, Any]]] = []
    monkeypatch.setattr(
        inferencer.visualizer, 'show', lambda p, **how: windows.append((p, how))
    )
    frames = np.stack(toy_frames(2))
    found = inferencer(
        [frames, frames[0]], prompts=[BOX], return_vis=True, show=True, wait_time=0.5
    )
    assert [len(pictures) for pictures in found['visualization']] == [2, 1]
    assert [how['win_name'] for _, how in windows] == ['input_0'] * 2 + ['input_1']
    assert {how['wait_time'] for _, how in windows} == {0.5}
    shown, kept = windows[0][0], found['visualization'][0][0]
    assert np.array_equal(shown, kept[..., ::-1])  # OpenCV's windows are BGR
    assert (kept != np.asarray(0)).any()


def test_progress_is_drawn_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inferencer: SAM2Inferencer
) -> None:
    film = write_clip(tmp_path / 'film.mp4', 2)
    inferencer(film, prompts=[BOX])
    assert 'film' not in capsys.readouterr().out
    inferencer.show_progress = True
    inferencer(film, prompts=[BOX])
    inferencer([toy_frames(1)[0]] * 2, prompts=[BOX])
    inferencer.show_progress = False
    printed = capsys.readouterr().out
    assert 'film' in printed
    assert 'Inputs' in printed


@pytest.mark.parametrize(
    ('frame', 'max_frames', 'total'), [(0, None, 6), (4, None, 2), (4, 1, 1), (1, 3, 3)]
)
def test_progress_bar_counts_the_frames_that_are_tracked(
    frame: int,
    max_frames: int | None,
    total: int,
    inferencer: SAM2Inferencer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    totals = []

    def track(frames: object, *_: str, total: int | None = None, **__: bool) -> object:
        totals.append(total)
        return frames

    monkeypatch.setattr('projects.sam2.apis.inferencer.track', track)
    prompt = ObjectPrompt(box=(4, 4, 20, 18), frame_index=frame)
    found = inferencer(np.stack(toy_frames(6)), prompts=[prompt], max_frames=max_frames)
    assert totals[-1] == total == len(found['predictions'][0].frames)


def test_masks_of_an_earlier_run_do_not_stay(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    film, out = write_clip(tmp_path / 'film.mp4', 4), tmp_path / 'out'
    inferencer(film, prompts=[BOX], out_dir=out, pred_formats=['png', 'json', 'npz'])
    notes, other = out / 'pred' / 'film' / 'notes.png', out / 'pred' / 'film_2.json'
    for path in (notes, other):
        path.write_text('mine')
    late = ObjectPrompt(box=(4, 4, 20, 18), frame_index=2)
    # A prompt that is refused removes nothing.
    before = sorted(out.rglob('*'))
    with pytest.raises(ValueError, match='lies outside of the image'):
        inferencer(film, prompts=[ObjectPrompt(points=[(999, 0)])], out_dir=out)
    assert sorted(out.rglob('*')) == before
    inferencer(film, prompts=[late], out_dir=out, pred_formats=['png'])
    written = {path.name for path in (out / 'pred').rglob('*.*')}
    assert written == {'00002.png', '00003.png', 'notes.png', 'film_2.json'}


def test_image_keeps_no_masks_of_an_earlier_run(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    image = toy_frames(1)[0]
    for formats in (['png', 'json'], ['npz']):
        inferencer(image, prompts=[BOX], out_dir=tmp_path, pred_formats=formats)
    assert [path.name for path in (tmp_path / 'pred').iterdir()] == ['input_0.npz']


def test_masks_do_not_replace_the_frames_that_they_are_of(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    frames = write_images(tmp_path / 'pred' / 'clip', ['00000.png', '00001.png'])
    before = {path: path.read_bytes() for path in frames.iterdir()}
    with pytest.raises(ValueError, match='would replace its frames; give another out_'):
        inferencer(frames, prompts=[BOX], folder_is_video=True, out_dir=tmp_path)
    assert {path: path.read_bytes() for path in frames.iterdir()} == before


def test_registry_builds_it_and_weights_find_their_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_weights(tmp_path / 'weights.pth')
    asked: list[Mapping[str, torch.Tensor]] = []

    def fitting(found: Mapping[str, torch.Tensor], *, source: str) -> Config:
        assert source == weights
        asked.append(found)
        return CONFIG

    monkeypatch.setattr('projects.sam2.apis.inferencer.fitting_config', fitting)
    built = INFERENCERS.build(
        {'type': 'SAM2Inferencer', 'weights': weights, 'device': 'cpu'}
    )
    state = built.model.state_dict()
    assert asked[0].keys() == state.keys()
    assert all(torch.equal(asked[0][key], state[key]) for key in state)
    assert not built.model.training


def test_neither_model_nor_weights_is_refused() -> None:
    with pytest.raises(ValueError, match='Neither a model nor weights'):
        SAM2Inferencer()


def test_visualizer_that_draws_no_masks_is_refused() -> None:
    config = Config({**CONFIG, 'visualizer': {'type': 'Visualizer'}})
    with pytest.raises(ValueError, match='Visualizer draws no masks'):
        SAM2Inferencer(model=config, device='cpu')
