"""Text prompts: what a detector finds becomes masks and tracks with names."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from numpy.typing import NDArray

from inference_cases import CONFIG, FakeCamera, write_weights
from projects.sam2.apis import ObjectPrompt, SAM2Inferencer
from projects.sam2.bridges.detection.detections import Detections
from projects.sam2.bridges.detection.detector import Detector
from projects.sam2.bridges.text_inferencer import SAM2TextInferencer
from projects.sam2.bridges.tracking.association import TrackRules
from projects.sam2.bridges.tracking.detect_and_track import DetectAndTrack
from projects.sam2.ops import decode_masks
from text_detectors import bright_disks, write_detector_weights, write_rtmdet
from tool_modules import failing_exit_code, load_tool
from toy_videos import toy_frames

TEXT = 'a cat . dog . traffic light . cup . kite'
THRESHOLD = 0.05


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Configs and checkpoints of a detector and a SAM 2."""
    folder = tmp_path_factory.mktemp('files')
    CONFIG.dump(folder / 'config.py')
    detector = write_rtmdet(folder)
    return {
        'DETECTOR': detector,
        'WEIGHTS': write_detector_weights(detector, folder / 'detector.pth'),
        'CONFIG': str(folder / 'config.py'),
        'CHECKPOINT': write_weights(folder / 'sam2.pth'),
    }


@pytest.fixture(scope='module')
def inferencer(files: dict[str, str]) -> SAM2TextInferencer:
    detector = Detector(files['DETECTOR'], files['WEIGHTS'], device='cpu')
    return SAM2TextInferencer(
        detector=detector,
        model=Config.fromfile(files['CONFIG']),
        weights=files['CHECKPOINT'],
        device='cpu',
        show_progress=False,
    )


def test_images_get_a_named_mask_for_each_box(
    inferencer: SAM2TextInferencer, tmp_path: Path
) -> None:
    image = bright_disks()
    call = partial(inferencer, image, TEXT, threshold=0.0)
    results = call(out_dir=tmp_path, pred_formats=('png', 'json', 'npz'))
    (frame,) = results['predictions'][0].frames
    found = inferencer.detector.detect(image, TEXT, threshold=0.0)
    names = tuple(found.class_names[label] for label in found.labels)
    assert len(found) > 3
    assert len(set(names)) > 1
    assert frame.categories == names
    assert frame.scores == tuple(found.scores.tolist())
    predictor = inferencer.image_predictor
    predictor.set_image(image)
    masks, ious, _ = predictor.predict(box=found.boxes, multimask_output=False)
    assert np.array_equal(decode_masks(frame.masks), masks[:, 0])
    assert np.allclose(frame.ious, ious[:, 0])
    objects = json.loads((tmp_path / 'pred/input_0.json').read_text())['frames'][0]
    assert [each['category'] for each in objects['objects']] == list(names)
    assert objects['objects'][0]['score'] == round(frame.scores[0], 4)
    arrays = np.load(tmp_path / 'pred/input_0.npz')
    assert arrays['categories'].tolist() == list(names)
    assert np.allclose(arrays['scores'], frame.scores)


def test_videos_and_streams_get_the_tracks_of_detect_and_track(
    inferencer: SAM2TextInferencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = toy_frames(5)
    boxes = torch.tensor([[4.0, 4, 20, 18], [25, 8, 44, 30]])

    def detect(image: NDArray[np.uint8], text: str, *, threshold: float) -> Detections:
        assert (text, threshold) == ('dog, kite', THRESHOLD)
        seen.append(image)
        return Detections(
            boxes=boxes,
            scores=torch.tensor([0.3, 0.2]),
            labels=torch.tensor([4, 1]),
            class_names=inferencer.detector.classes,
        )

    seen: list[NDArray[np.uint8]] = []
    monkeypatch.setattr(inferencer.detector, 'detect', detect)
    options: dict[str, Any] = {'threshold': THRESHOLD, 'detect_every': 2}
    results = inferencer(np.stack(frames), 'dog, kite', **options)
    assert np.array_equal(np.stack(seen), np.stack(frames[::2]))
    tracker = DetectAndTrack(
        inferencer.video_predictor,
        partial(detect, text='dog, kite', threshold=THRESHOLD),
        every=2,
        rules=TrackRules(start_score=THRESHOLD),
    )
    tracks = list(tracker.track(frames))
    inferred = results['predictions'][0].frames
    assert len(inferred) == len(tracks) == 5
    assert inferred[0].object_ids
    for frame, expected in zip(inferred, tracks, strict=True):
        assert frame.object_ids == expected.object_ids
        assert np.array_equal(decode_masks(frame.masks), expected.masks.numpy())
        names = [expected.class_names[label] for label in expected.labels]
        assert frame.categories == tuple(names)
    assert inferred[0].categories[0] == 'kite'

    class Camera(FakeCamera):
        def __init__(self, device: int | str) -> None:
            super().__init__(device)
            self.frames = [image[..., ::-1] for image in frames[::-1]]

    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    streamed = inferencer(3, 'dog, kite', max_frames=4, **options)
    live = streamed['predictions'][0].frames
    assert [frame.masks for frame in live] == [frame.masks for frame in inferred[:4]]
    assert live[3].categories == inferred[3].categories


def test_prompts_by_hand_may_have_a_category(inferencer: SAM2TextInferencer) -> None:
    prompts = [
        ObjectPrompt(object_id=1, box=(4, 4, 20, 18), category='dog'),
        ObjectPrompt(object_id=2, box=(25, 8, 44, 30)),
        ObjectPrompt(object_id=1, frame_index=1, points=[(9, 9)]),
    ]
    forward = partial(SAM2Inferencer.forward, inferencer, prompts=prompts)
    results = inferencer._infer_all(np.stack(toy_frames(2)), forward)
    frames = results['predictions'][0].frames
    assert [frame.categories for frame in frames] == [('dog', '')] * 2


@pytest.mark.parametrize(
    ('text', 'options', 'message'),
    [
        ('dgo', {}, "no class 'dgo'"),
        ('dog', {'threshold': 1.5}, 'threshold is 1.5'),
        ('dog', {'detect_every': 0}, 'detect_every is 0'),
        ('dog', {'max_frames': 0}, 'max_frames is 0'),
        ('dog', {'pred_formats': ['gif']}, "Unknown format 'gif'"),
    ],
)
def test_nothing_is_written_after_a_mistake(
    inferencer: SAM2TextInferencer,
    text: str,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
) -> None:
    frames = np.stack(toy_frames(2))
    with pytest.raises(ValueError, match=message):
        inferencer(frames, text, out_dir=tmp_path, **options)
    assert not list(tmp_path.rglob('*.*'))


def test_what_is_not_found_is_said_and_writes_empty_files(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = load_tool('predict')
    image = tmp_path / 'image.png'
    cv2.imwrite(str(image), bright_disks())
    words = [str(image), files['CONFIG'], files['CHECKPOINT'], '--device', 'cpu']
    words += ['--detector', files['DETECTOR'], '--out-dir', str(tmp_path / 'out')]
    text = ['--text', TEXT, '--detector-checkpoint', files['WEIGHTS']]
    tool.main([*words, *text, '--threshold', '1'])
    said = capsys.readouterr().out
    assert f'nothing was found for {TEXT!r} with a score of at least 1' in said
    assert 'image: 0 objects' in said
    assert (tmp_path / 'out/pred/image.png').is_file()
    results = tool.main([*words, *text, '--threshold', '0'])
    said = capsys.readouterr().out.splitlines()[-1]
    names = results['predictions'][0].frames[0].categories
    assert f'image: {len(names)} objects (' in said
    assert all(f'{names.count(name)} {name}' in said for name in names)


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--text dog', '--text is for a detector; give --detector CONFIG'),
        ('--detect-every 2', '--detect-every is for a detector'),
        ('--detector rtmdet-s', 'needs --detector-checkpoint FILE; download https://'),
        ('--detector rtmdet-s --box 1 1 9 9', '--box is for prompts by hand'),
        ('--detector rtmdet-s --use-m2m', '--use-m2m is for everything in an image'),
        ('--detector DETECTOR --detector-checkpoint no.pth', 'no checkpoint no.pth'),
        ('--detector DETECTOR --detector-checkpoint CHECKPOINT', 'does not fit'),
        ('--detector DETECTOR --detector-checkpoint WEIGHTS --text dgo', "class 'dgo'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    files: dict[str, str],
    line: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / 'image.png'
    cv2.imwrite(str(image), bright_disks())
    words = [files.get(word, word) for word in f'CONFIG CHECKPOINT {line}'.split()]
    words += ['--out-dir', str(tmp_path / 'out'), '--device', 'cpu']
    assert failing_exit_code(load_tool('predict'), [str(image), *words]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()
