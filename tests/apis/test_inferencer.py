"""The inferencer: prompts reach the predictors, and results reach the files."""

from collections.abc import Iterator, Mapping, Sequence
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
    FakeCamera,
    frame_of,
    nested_masks,
    small_inferencer,
    write_clip,
    write_images,
    write_weights,
)
from projects.sam2.apis import InferenceResult, ObjectPrompt, SAM2Inferencer
from projects.sam2.apis.frame_readers import ArrayReader
from projects.sam2.apis.inference_io import (
    ImageInput,
    InferredFrame,
    StreamInput,
    VideoInput,
)
from projects.sam2.ops import decode_masks
from projects.sam2.structures import PointLabel
from toy_videos import SIZE, refuse_archives, toy_frames

CORNERS = (4.0, 4.0, 20.0, 18.0)
BOX = ObjectPrompt(box=CORNERS)
MASK = np.ones((4, 4), dtype=bool)
LENGTH = 17  # a shorter stream does not equal a video
FRAMES = toy_frames(LENGTH)


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory: pytest.TempPathFactory) -> SAM2Inferencer:
    """Of the small model."""
    return small_inferencer(tmp_path_factory.mktemp('model'))


def test_folder_of_images_becomes_overlays_and_masks(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / 'in', ['a.jpg', 'a.png', 'b.png'])
    out = tmp_path / 'out'
    results = inferencer(folder, prompts=[BOX], out_dir=out)
    names = [result.name for result in results['predictions']]
    assert names == ['a', 'a_2', 'b']  # no file is written over another
    for name in names:
        picture = cv2.imread(str(out / 'vis' / f'{name}.png'))
        assert picture is not None
        assert picture.shape == (384, 640, 3)
        labels = cv2.imread(str(out / 'pred' / f'{name}.png'), cv2.IMREAD_UNCHANGED)
        assert labels is not None
        assert labels.shape[:2] == SIZE
        assert (out / 'pred' / f'{name}.json').is_file()
    assert results['visualization'] == [[], [], []]


def test_video_becomes_an_overlay_video_and_is_drawn_only_if_needed(
    inferencer: SAM2Inferencer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / 'clip.mp4', 5)
    results = inferencer(clip, prompts=[BOX], max_frames=3, out_dir=tmp_path / 'out')
    (result,) = results['predictions']
    assert isinstance(result, InferenceResult)
    assert [frame.frame_index for frame in result.frames] == [0, 1, 2]
    assert decode_masks(result.frames[0].masks).shape == (1, *SIZE)
    drawn = cv2.VideoCapture(str(tmp_path / 'out' / 'vis' / 'clip.mp4'))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    monkeypatch.setattr(inferencer, 'visualize', None)
    inferencer(clip, prompts=[BOX], max_frames=1)


def test_id_that_a_format_cannot_store_is_an_error_before_inference(
    inferencer: SAM2Inferencer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [ObjectPrompt(object_id=70_000, box=(10, 5, 60, 40))]
    given: dict[str, Any] = {'prompts': prompts, 'out_dir': tmp_path}
    results = inferencer(toy_frames(1)[0], **given, pred_formats=['json'])
    assert results['predictions'][0].frames[0].object_ids == (70_000,)
    monkeypatch.setattr(inferencer, 'forward', None)
    with pytest.raises(ValueError, match='Object 70000 does not fit into png'):
        inferencer(toy_frames(1)[0], **given)
    with pytest.raises(ValueError, match=r"prompts holds 'x'; give ObjectPrompt\("):
        inferencer(toy_frames(1)[0], prompts='x')  # type: ignore[arg-type]


def test_overlays_are_returned_and_shown(
    inferencer: SAM2Inferencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: list[tuple[np.ndarray, dict[str, Any]]] = []
    monkeypatch.setattr(
        inferencer.visualizer, 'show', lambda p, **how: windows.append((p, how))
    )
    monkeypatch.setattr(inferencer.visualizer, 'check_windows', lambda: None)
    frames = np.stack(toy_frames(2))
    results = inferencer(
        [frames, frames[0]], prompts=[BOX], return_vis=True, show=True, wait_time=0.5
    )
    assert [len(pictures) for pictures in results['visualization']] == [2, 1]
    assert [how['win_name'] for _, how in windows] == ['input_0'] * 2 + ['input_1']
    assert {how['wait_time'] for _, how in windows} == {0.5}
    shown, kept = windows[0][0], results['visualization'][0][0]
    assert np.array_equal(shown, kept[..., ::-1])  # OpenCV's windows are BGR
    assert (kept != np.asarray(0)).any()


def test_progress_bar_is_optional(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], inferencer: SAM2Inferencer
) -> None:
    clip = write_clip(tmp_path / 'clip.mp4', 2)
    inferencer(clip, prompts=[BOX])
    assert 'clip' not in capsys.readouterr().out
    inferencer.show_progress = True
    inferencer(clip, prompts=[BOX])
    inferencer([toy_frames(1)[0]] * 2, prompts=[BOX])
    inferencer.show_progress = False
    printed = capsys.readouterr().out
    assert 'clip' in printed
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
    results = inferencer(
        np.stack(toy_frames(6)), prompts=[prompt], max_frames=max_frames
    )
    assert totals[-1] == total == len(results['predictions'][0].frames)


def test_masks_of_an_earlier_run_are_removed(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    clip, out = write_clip(tmp_path / 'clip.mp4', 4), tmp_path / 'out'
    inferencer(clip, prompts=[BOX], out_dir=out, pred_formats=['png', 'json', 'npz'])
    notes, other = out / 'pred' / 'clip' / 'notes.png', out / 'pred' / 'clip_2.json'
    for path in (notes, other):
        path.write_text('mine')
    late = ObjectPrompt(box=(4, 4, 20, 18), frame_index=2)
    # A prompt that is refused removes nothing.
    before = sorted(out.rglob('*'))
    with pytest.raises(ValueError, match='lies outside of the image'):
        inferencer(clip, prompts=[ObjectPrompt(points=[(999, 0)])], out_dir=out)
    assert sorted(out.rglob('*')) == before
    inferencer(clip, prompts=[late], out_dir=out, pred_formats=['png'])
    written = {path.name for path in (out / 'pred').rglob('*.*')}
    assert written == {'00002.png', '00003.png', 'notes.png', 'clip_2.json'}


def test_masks_of_an_earlier_image_are_removed(
    inferencer: SAM2Inferencer, tmp_path: Path
) -> None:
    image = toy_frames(1)[0]
    for formats in (['png', 'json'], ['npz']):
        inferencer(image, prompts=[BOX], out_dir=tmp_path, pred_formats=formats)
    assert [path.name for path in (tmp_path / 'pred').iterdir()] == ['input_0.npz']


def test_masks_do_not_replace_their_frames(
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
    given: list[Mapping[str, torch.Tensor]] = []

    def fitting(weights_: Mapping[str, torch.Tensor], *, source: str) -> Config:
        assert source == weights
        given.append(weights_)
        return CONFIG

    monkeypatch.setattr('projects.sam2.apis.inferencer.fitting_config', fitting)
    built = INFERENCERS.build(
        {'type': 'SAM2Inferencer', 'weights': weights, 'device': 'cpu'}
    )
    state = built.model.state_dict()
    assert given[0].keys() == state.keys()
    assert all(torch.equal(given[0][key], state[key]) for key in state)
    assert not built.model.training


def test_neither_model_nor_weights_is_an_error() -> None:
    with pytest.raises(ValueError, match='Neither a model nor weights'):
        SAM2Inferencer()


def test_visualizer_that_draws_no_masks_is_an_error() -> None:
    config = Config({**CONFIG, 'visualizer': {'type': 'Visualizer'}})
    with pytest.raises(ValueError, match='Visualizer draws no masks'):
        SAM2Inferencer(model=config, device='cpu')


@pytest.mark.parametrize('is_stream', [True, False])
def test_interrupted_stream_is_kept_and_interrupted_video_discarded(
    *,
    is_stream: bool,
    inferencer: SAM2Inferencer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def frames(*_: object, **__: object) -> Iterator[InferredFrame]:
        for index in range(2):
            yield frame_of(nested_masks(), (1, 2), index=index)
        raise KeyboardInterrupt

    monkeypatch.setattr(cv2, 'VideoCapture', FakeCamera)
    monkeypatch.setattr(inferencer, 'forward', frames)
    out = tmp_path / 'out'
    if is_stream:
        (result,) = inferencer(3, out_dir=out, pred_formats=['json'])['predictions']
        assert [frame.frame_index for frame in result.frames] == [0, 1]
        assert (out / 'vis' / 'camera_3.mp4').is_file()
        assert (out / 'pred' / 'camera_3.json').is_file()
    else:
        with pytest.raises(KeyboardInterrupt):
            inferencer(np.stack(FRAMES[:2]), out_dir=out, pred_formats=['json'])
        assert not [path for path in out.rglob('*') if path.is_file()]


# ------------------------------------------------------- images, videos, streams


def video(length: int = LENGTH) -> VideoInput:
    return VideoInput(
        name='v', frames=ArrayReader(FRAMES[:length]), frames_per_second=12
    )


def stream(length: int = LENGTH) -> StreamInput:
    return StreamInput(name='s', frames=iter(FRAMES[:length]), frames_per_second=12)


def image_of(
    inferencer: SAM2Inferencer, prompts: Sequence[ObjectPrompt] = ()
) -> InferredFrame:
    image = ImageInput(name='i', pixels=FRAMES[0])
    (frame,) = inferencer.forward(image, prompts=prompts)
    return frame


def shown(frames: list[InferredFrame]) -> list[tuple[int, tuple[int, ...], float]]:
    """Frames, ids, and how much of a frame is covered."""
    return [(f.frame_index, f.object_ids, float(f.masks.mean())) for f in frames]


def test_objects_of_an_image_equal_the_image_predictors(
    inferencer: SAM2Inferencer,
) -> None:
    mask = nested_masks()[1]
    frame = image_of(
        inferencer,
        [
            ObjectPrompt(object_id=5, box=CORNERS, points=[(9, 9)]),
            ObjectPrompt(object_id=2, points=[(12, 9)]),
            ObjectPrompt(object_id=9, mask=mask),
        ],
    )
    inferencer.image_predictor.set_image(FRAMES[0])
    predict = inferencer.image_predictor.predict
    both, _, _ = predict([[9, 9]], [1], box=CORNERS, multimask_output=False)
    three, ious, _ = predict([[12, 9]], [1])
    soft = torch.nn.functional.interpolate(
        torch.from_numpy(mask)[None, None].float(),
        size=(8, 8),
        mode='bilinear',
        antialias=True,
    )
    given, _, _ = predict(mask_input=20 * soft[0] - 10, multimask_output=False)
    assert frame.object_ids == (5, 2, 9)
    expected = np.stack([both[0], three[ious.argmax()], given[0]])
    assert np.array_equal(frame.masks, expected)
    assert frame.ious[1] == pytest.approx(float(ious.max()))
    assert len(frame.marks) == 2 + 1 + 1


def test_image_without_a_prompt_is_segmented_as_a_whole(
    inferencer: SAM2Inferencer,
) -> None:
    frame = image_of(inferencer)
    expected = inferencer.mask_generator.generate(FRAMES[0])
    assert frame.object_ids == tuple(range(1, len(expected) + 1))
    assert len(expected) > 1
    for mask, literal in zip(frame.masks, expected, strict=True):
        assert np.array_equal(mask, np.asarray(literal['segmentation']))


def test_video_is_tracked_by_the_video_predictor(
    inferencer: SAM2Inferencer,
) -> None:
    prompts = [
        ObjectPrompt(object_id=3, frame_index=1, box=CORNERS),
        ObjectPrompt(object_id=8, frame_index=2, mask=nested_masks()[0]),
        ObjectPrompt(object_id=3, frame_index=4, points=[(9, 9)], labels=[0]),
    ]
    frames = list(inferencer.forward(video(6), prompts=prompts))
    state = inferencer.video_predictor.init_state(FRAMES[:6])
    inferencer.video_predictor.add_new_points_or_box(state, 1, 3, box=CORNERS)
    inferencer.video_predictor.add_new_mask(state, 2, 8, nested_masks()[0])
    inferencer.video_predictor.add_new_points_or_box(state, 4, 3, [[9, 9]], [0])
    expected = list(inferencer.video_predictor.propagate_in_video(state))
    assert [frame.frame_index for frame in frames] == [1, 2, 3, 4, 5]
    for frame, result in zip(frames, expected, strict=True):
        assert frame.object_ids == (3, 8)
        assert np.array_equal(frame.masks, (result.mask_logits[:, 0] > 0).numpy())
        assert np.array_equal(frame.pixels, FRAMES[frame.frame_index])
    assert [len(frame.marks) for frame in frames] == [2, 0, 0, 1, 0]


def test_old_memories_are_not_offloaded(
    inferencer: SAM2Inferencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_archives(monkeypatch)
    prompts = [ObjectPrompt(object_id=3, box=CORNERS)]
    longer = VideoInput(
        name='longer', frames=ArrayReader(toy_frames(20)), frames_per_second=5.0
    )
    assert len(list(inferencer.forward(longer, prompts=prompts))) == 20


def test_stream_equals_the_video(inferencer: SAM2Inferencer) -> None:
    prompts = [ObjectPrompt(object_id=3, box=CORNERS)]
    live = list(inferencer.forward(stream(), prompts=prompts))
    assert shown(live) == shown(list(inferencer.forward(video(), prompts=prompts)))
    assert len({frame.masks.mean() for frame in live}) > LENGTH // 2


def test_stream_has_no_masks_before_its_first_prompt(
    inferencer: SAM2Inferencer,
) -> None:
    prompts = [ObjectPrompt(object_id=3, frame_index=2, box=CORNERS)]
    live = list(inferencer.forward(stream(4), prompts=prompts))
    assert [frame.object_ids for frame in live] == [(), (), (3,), (3,)]


def test_everything_on_the_first_frame_is_tracked(
    inferencer: SAM2Inferencer,
) -> None:
    number = len(inferencer.mask_generator.generate(FRAMES[0]))
    for frames in (inferencer.forward(video(2)), inferencer.forward(stream(2))):
        ids = [frame.object_ids for frame in frames]
        assert ids == [tuple(range(1, number + 1))] * 2


def test_video_without_anything_on_its_first_frame_is_an_error(
    inferencer: SAM2Inferencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inferencer.mask_generator, 'pred_iou_thresh', 1.0)
    message = (
        r'on the first frame \(0 masks of 27 candidates: .*; or prompt the objects'
    )
    with pytest.raises(ValueError, match=message):
        list(inferencer.forward(video(2)))


def test_wrong_prompts_of_an_image_are_errors(
    inferencer: SAM2Inferencer,
) -> None:
    later = ObjectPrompt(frame_index=2, box=CORNERS)
    twice = [ObjectPrompt(box=CORNERS), ObjectPrompt(points=[(1, 1)])]
    outside = ObjectPrompt(points=[(500, 1)])
    for prompts, message in (
        ([later], 'no frame 2'),
        (twice, 'Object 1 has two prompts'),
        ([outside], 'outside'),
        ([ObjectPrompt(mask=np.ones((3, 3), bool))], 'mask has shape'),
    ):
        with pytest.raises(ValueError, match=message):
            image_of(inferencer, prompts)


# ----------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ('said', 'message'),
    [
        ({}, 'needs points, a box or both'),
        ({'mask': MASK, 'box': (0, 0, 2, 2)}, 'a mask in place of them'),
        ({'points': [(1, 1)], 'labels': [1, 0]}, '1 points and 2 labels'),
        ({'points': [(1, 1)], 'object_id': 0}, 'objects count from 1'),
        ({'points': [(1, 1)], 'frame_index': -1}, 'frame -1'),
        ({'points': [(1, 1)], 'object_id': 'cat'}, r"object_id is 'cat' \(str\)"),
        ({'points': [(1, 1)], 'frame_index': 1.5}, r'frame_index is 1\.5 \(float\)'),
    ],
)
def test_malformed_prompts_are_errors(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectPrompt(**said)


def test_points_are_on_the_object_by_default() -> None:
    labels = ObjectPrompt(points=[(1, 2), (3, 4)]).point_labels
    assert labels is not None
    assert labels.tolist() == [1, 1]
    box = ObjectPrompt(box=(1, 2, 3, 4))
    assert box.point_labels is None
    assert box.point_coords is None


def test_numpy_numbers_become_plain_ones() -> None:
    prompt = ObjectPrompt(
        object_id=np.uint8(4),  # type: ignore[arg-type]
        points=np.array([[5, 6], [7, 8]]),  # type: ignore[arg-type]
        labels=np.array([1, 0]),  # type: ignore[arg-type]
    )
    assert type(prompt.object_id) is int
    assert prompt.point_labels is not None
    assert prompt.point_labels.tolist() == [1, 0]
    assert [(mark.x, mark.label) for mark in prompt.marks()] == [(5, 1), (7, 0)]


def test_marks_are_the_corners_and_then_the_points() -> None:
    prompt = ObjectPrompt(object_id=4, box=(1, 2, 30, 40), points=[(5, 6)], labels=[0])
    marks = [(m.object_id, m.x, m.y, m.label) for m in prompt.marks()]
    assert marks == [
        (4, 1, 2, PointLabel.BOX_TOP_LEFT),
        (4, 30, 40, PointLabel.BOX_BOTTOM_RIGHT),
        (4, 5, 6, PointLabel.NEGATIVE),
    ]
    assert not list(ObjectPrompt(mask=MASK).marks())
