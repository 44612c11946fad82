"""Detectors of mmdetection: what a text names, and what does not fit together."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from numpy.typing import NDArray

from projects.sam2.bridges.detection.detector import Detector, split_phrases
from text_detectors import (
    CLASSES,
    bright_disks,
    write_detector_weights,
    write_glip,
    write_grounding_dino,
    write_language_model,
    write_rtmdet,
)


@pytest.fixture(scope='module')
def image() -> NDArray[np.uint8]:
    return bright_disks()


@pytest.fixture(scope='module')
def rtmdet(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Config and checkpoint of a detector of five classes."""
    folder = tmp_path_factory.mktemp('rtmdet')
    config = write_rtmdet(folder)
    return config, write_detector_weights(config, folder / 'weights.pth')


@pytest.fixture(scope='module')
def grounding_dino(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Config and checkpoint of a detector that takes any text."""
    folder = tmp_path_factory.mktemp('grounding_dino')
    language_model = write_language_model(folder / 'bert')
    config = write_grounding_dino(folder, language_model)
    return config, write_detector_weights(config, folder / 'weights.pth')


@pytest.mark.parametrize(
    ('text', 'phrases'),
    [
        ('a dog . a ball .', ('a dog', 'a ball')),
        (' dog,Traffic  light;\ncat. dog', ('dog', 'Traffic light', 'cat')),
        ('3.5 mm jack . jack', ('3.5 mm jack', 'jack')),
        (['dog, or cat', 'DOG, or cat'], ('dog, or cat',)),
        (' . ', ()),
    ],
)
def test_phrases_are_separated_once(text: Any, phrases: tuple[str, ...]) -> None:
    assert split_phrases(text) == phrases


@pytest.mark.filterwarnings('ignore')  # of mmdet's inferencer
def test_classes_named_by_a_text_are_those_of_mmdets_own_inference(
    rtmdet: tuple[str, str], image: NDArray[np.uint8]
) -> None:
    from mmdet.apis import DetInferencer  # noqa: PLC0415  optional

    config, checkpoint = rtmdet
    detector = Detector(config, checkpoint, device='cpu')
    scope = DefaultScope.get_current_instance()
    assert scope is None or scope.scope_name != 'mmdet'
    assert detector.classes == CLASSES
    assert not detector.takes_any_text
    found = detector.detect(image, '', threshold=0.0)
    assert len(found) > 5
    height, width = image.shape[:2]
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor([width, height])).all()
    assert (found.scores.diff() <= 0).all()
    some = detector.detect(image, ' the dog, Traffic_Light\nCAT.', threshold=0.0)
    is_named = torch.isin(found.labels, torch.tensor([0, 1, 2]))
    assert torch.equal(some.labels, found.labels[is_named])
    assert torch.equal(some.boxes, found.boxes[is_named])
    assert is_named.any()
    assert not is_named.all()
    limit = float(found.scores[2])
    assert len(detector.detect(image, '', threshold=limit)) == 3
    # The same boxes as mmdetection's, which knows nothing of the text.
    with DefaultScope.overwrite_default_scope('mmdet'):
        inferencer = DetInferencer(config, checkpoint, device='cpu')
        inferencer.show_progress = False
        theirs = inferencer(image[..., ::-1], no_save_vis=True)['predictions'][0]
    scores = torch.tensor(theirs['scores'])
    assert torch.isin(found.scores, scores).all()
    best = torch.tensor(theirs['bboxes'][int(scores.argmax())])
    bounds = torch.tensor([width, height, width, height])
    assert torch.equal(found.boxes[0], torch.minimum(best.clamp(min=0), bounds))


def test_phrases_become_the_classes_of_a_detector_with_a_language_model(
    grounding_dino: tuple[str, str],
    image: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, 'nltk', None)  # an import would fail
    detector = Detector(*grounding_dino, device='cpu')
    assert detector.takes_any_text
    found = detector.detect(image, 'a red disk . square', threshold=0.0)
    assert found.class_names == ('a red disk', 'square')
    assert set(found.labels.tolist()) == {0, 1}
    as_list = detector.detect(image, ['a red disk', 'square'], threshold=0.0)
    assert torch.equal(as_list.boxes, found.boxes)
    # A query has one box and a score for each phrase: only the better one is kept.
    assert len(torch.unique(found.boxes, dim=0)) == len(found)
    # The order of the phrases decides the labels, not what is found.
    turned = detector.detect(image, 'square, a red disk, SQUARE', threshold=0.0)
    assert turned.class_names == ('square', 'a red disk')
    wrong: list[tuple[Any, str]] = [
        (' ., ', 'the text is empty'),
        ('(red)', r"'\(red\)' names nothing"),
        ('dog ' * 70, 'the text has 73 tokens, and the language model reads 64'),
        ([3], 'the text holds 3'),
        (None, 'the text is None'),
    ]
    for text, message in wrong:
        with pytest.raises(ValueError, match=message):
            detector.detect(image, text)


def test_glip_takes_the_language_model_that_is_given(
    image: NDArray[np.uint8], tmp_path: Path
) -> None:
    # The config names it twice, and neither is on this machine.
    config = write_glip(tmp_path, 'bert-base-uncased')
    folder = write_language_model(tmp_path / 'bert')  # seeds torch
    detector = Detector(config, None, device='cpu', language_model=folder)
    found = detector.detect(image, 'disk . star', threshold=0.0)
    assert found.class_names == ('disk', 'star')
    assert len(found) > 0
    assert {*found.labels.tolist()} <= {0, 1}


def test_what_is_wrong_with_a_text_or_a_threshold_is_named(
    rtmdet: tuple[str, str], image: NDArray[np.uint8]
) -> None:
    detector = Detector(*rtmdet, device='cpu')
    with pytest.raises(ValueError, match=r"no class 'dgo'; it knows 5 .* such as Dog"):
        detector.detect(image, 'dgo')
    with pytest.raises(ValueError, match='threshold is'):
        detector.detect(image, 'dog', threshold=2)
    with pytest.raises(ValueError, match='float32'):
        detector.detect(image.astype(np.float32), 'dog')


def test_what_does_not_fit_together_is_named(
    rtmdet: tuple[str, str], grounding_dino: tuple[str, str], tmp_path: Path
) -> None:
    config, checkpoint = rtmdet
    (tmp_path / 'empty.py').write_text('a = 1\n')
    weights = torch.load(checkpoint)
    weights['meta'] = None
    torch.save(weights, tmp_path / 'no_meta.pth')
    assert Detector(config, tmp_path / 'no_meta.pth', device='cpu').classes == CLASSES
    torch.save({'state_dict': [1]}, tmp_path / 'list.pth')
    (tmp_path / 'four').mkdir()
    four = write_rtmdet(tmp_path / 'four', CLASSES[:4])
    bare = 'grounding_dino_swin-t_pretrain_obj365_goldg_cap4m'
    for arguments, error, message in (
        ((tmp_path / 'empty.py', None), ValueError, r'empty\.py cannot be built'),
        (('rtmdet-q', None), FileNotFoundError, 'did you mean rtmdet-'),
        (
            ('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', 'none.pth'),
            FileNotFoundError,
            r'no checkpoint none\.pth; download https://.*/rtmdet_s_8xb32.*\.pth',
        ),
        (
            (config, grounding_dino[1]),
            ValueError,
            r'does not fit the detector: .* missing',
        ),
        ((four, checkpoint), ValueError, r'not fit the detector: .* shape'),
        ((config, tmp_path / 'list.pth'), ValueError, 'holds a list as state_dict'),
        ((bare, None), FileNotFoundError, 'language model bert-base-uncased .* not on'),
    ):
        with pytest.raises(error, match=message):
            Detector(*arguments, device='cpu')
    with pytest.raises(FileNotFoundError, match=r'model /none .* is no folder'):
        Detector(*grounding_dino, device='cpu', language_model='/none')
    with pytest.raises(ValueError, match='it has no language model; leave /none out'):
        Detector(config, None, device='cpu', language_model='/none')


def test_classes_without_a_name_are_refused(
    rtmdet: tuple[str, str], tmp_path: Path
) -> None:
    weights = torch.load(rtmdet[1])
    weights['meta']['dataset_meta']['classes'] = CLASSES[:2]
    torch.save(weights, tmp_path / 'two.pth')
    with pytest.raises(ValueError, match=r'5 classes, but 2 are named \(cat, Dog\)'):
        Detector(rtmdet[0], tmp_path / 'two.pth', device='cpu')


@pytest.mark.parametrize(
    ('package', 'message'),
    [
        ('mmdet', r'A detector needs mmdet, .* pip install "mmsam2\[mmdet\]"'),
        ('transformers', r'language model .* pip install "transformers>=4'),
    ],
)
def test_a_missing_package_is_named(
    package: str,
    message: str,
    grounding_dino: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=message):
        Detector(grounding_dino[0], None, device='cpu')
