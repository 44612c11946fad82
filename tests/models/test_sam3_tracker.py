"""SAM 3's tracker gives the numbers of transformers, and is trained in our loop.

The golden data is that of transformers 5 with weights from a seed; see
``golden_variants/make_sam3_tracker.py``, which says what was switched off there.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from golden_cases import GoldenCase, assert_close, discover_variants, variants_module
from projects.sam2.apis import SAM2ImagePredictor
from projects.sam2.checkpoints import weights_of
from projects.sam2.checkpoints.key_map import map_to_huggingface
from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.frame import FrameTask, track_frame
from projects.sam2.structures import (
    EncodedFrame,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/models'
# Largest difference over the root mean square. Found: 5e-6 for features, and 8e-5 for
# what follows, as much as either implementation differs from itself in float64.
FEATURE_TOLERANCE, TOLERANCE = 1e-4, 5e-4
CASES = discover_variants('sam3_tracker_*')

golden = pytest.mark.parametrize('case', CASES)
pytestmark = pytest.mark.golden_variants


def _generator() -> Any:
    return variants_module('sam3_tracker_weights')


@functools.lru_cache(maxsize=2)
def _weights(case: GoldenCase) -> dict[str, Tensor]:
    """Weights by the names of Sam3TrackerVideoModel."""
    made = _generator().weights(
        case.spec['shapes'], case.spec['salt'], case.spec['added']
    )
    return {name: torch.from_numpy(value) for name, value in made.items()}


@functools.lru_cache(maxsize=2)
def _model(case: GoldenCase) -> SAM2:
    config = Config.fromfile(CONFIGS / 'sam3_tracker.py')
    config.merge_from_dict(
        {f'model.{key}': value for key, value in case.spec['overrides'].items()}
    )
    model: SAM2 = MODELS.build(config.model).eval()
    model.load_state_dict(weights_of(_weights(case), source='golden'))
    return model


@functools.lru_cache(maxsize=2)
def _frames(case: GoldenCase) -> Any:
    spec = case.spec
    return _generator().frames(spec['num_frames'], spec['side'], spec['salt'])


@functools.lru_cache(maxsize=2)
@torch.no_grad()
def _features(case: GoldenCase) -> ImageFeatures:
    model = _model(case)
    frames = torch.cat([model.data_preprocessor.frame(f) for f in _frames(case)])
    return model.encode(frames)


def _points(case: GoldenCase, prompt: str) -> PointPrompt:
    rows = torch.tensor([case.spec['prompts'][prompt]])
    return PointPrompt(coords=rows[..., :2], labels=rows[..., 2].int())


@golden
def test_config_has_the_weights_of_transformers(case: GoldenCase) -> None:
    expected = case.spec['full_size']
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(CONFIGS / 'sam3_tracker.py').model)
    assert sum(p.numel() for p in model.parameters()) == expected['num_parameters']
    shapes = _shapes_by_huggingface(model)
    assert len(shapes) == expected['num_weights']
    lines = sorted(f'{name} {list(shape)}\n' for name, shape in shapes.items())
    digest = hashlib.sha256(''.join(lines).encode()).hexdigest()
    assert digest == expected['sha256']


def _shapes_by_huggingface(model: SAM2) -> dict[str, tuple[int, ...]]:
    named = map_to_huggingface(model.state_dict())
    return {name: tuple(value.shape) for name, value in named.items()}


@golden
def test_image_features_are_those_of_transformers(case: GoldenCase) -> None:
    features = _features(case)
    for name in ('embedding', 'high_res_8', 'high_res_4'):
        actual = getattr(features, name)[0, ::4]
        assert_close(actual, case.arrays[f'image_{name}'], FEATURE_TOLERANCE, name)


@golden
def test_image_predictor_gives_the_masks_of_transformers(case: GoldenCase) -> None:
    predictor = SAM2ImagePredictor(_model(case))
    predictor.set_image(_frames(case)[0])
    for name, rows in case.spec['prompts'].items():
        points = np.array(rows)
        is_box = points[0, 2] == 2
        prompt: dict[str, Any] = (
            {'box': points[:, :2].reshape(4)}
            if is_box
            else {'point_coords': points[:, :2], 'point_labels': points[:, 2]}
        )
        for kind, multimask in (('single', False), ('multi', True)):
            _, ious, low_res = predictor.predict(**prompt, multimask_output=multimask)
            expected = f'image_{name}_{kind}'
            masks = case.arrays[f'{expected}_masks'].clip(-32, 32)
            assert_close(low_res, masks, TOLERANCE, expected)
            assert_close(ious, case.arrays[f'{expected}_ious'], TOLERANCE, expected)


@golden
@torch.no_grad()
def test_mask_prompt_gives_the_pointer_and_memory_of_transformers(
    case: GoldenCase,
) -> None:
    model, features = _model(case), _features(case).select(torch.tensor([0]))
    mask = torch.from_numpy(_generator().disc(case.spec['side']))[None, None]
    step = model.heads.use_mask_as_output(
        mask=mask, features=features, mode=TrackingMode.EVALUATION
    )
    assert step.full_logits is not None
    memory = model.tracker.encode_memory(
        features, step.full_logits, step.object_score_logits > 0, binary=True
    )
    for name, actual in (
        ('masks', step.mask_logits[:, 0]),
        ('scores', step.object_score_logits[:, 0]),
        ('pointers', step.object_pointer),
        ('memories', memory),
    ):
        assert_close(actual, case.arrays[f'mask_{name}'], TOLERANCE, name)


@golden
@pytest.mark.parametrize('name', ['forward', 'reverse', 'corrected'])
@torch.no_grad()
def test_tracking_gives_the_numbers_of_transformers(
    case: GoldenCase, name: str
) -> None:
    video = case.spec['videos'][name]
    tracks = [_track(case, video, number) for number in range(len(video['objects']))]
    for key, read in {
        'masks': lambda output: output.final.mask_logits[0, 0],
        'scores': lambda output: output.final.object_score_logits[0, 0],
        'pointers': lambda output: output.final.object_pointer[0],
    }.items():
        frames = zip(*tracks, strict=True)
        actual = torch.stack([torch.stack([*map(read, frame)]) for frame in frames])
        assert_close(actual, case.arrays[f'video_{name}_{key}'], TOLERANCE, key)
    memories = torch.cat([track[-1].memory.spatial for track in tracks])
    assert_close(memories, case.arrays[f'video_{name}_memories'], TOLERANCE, 'memory')


def _track(case: GoldenCase, video: dict[str, Any], number: int) -> list[EncodedFrame]:
    """Track an object as transformers does, which keeps no correction as a prompt."""
    model, features = _model(case), _features(case)
    count = case.spec['num_frames']
    order = range(count)[:: -1 if video['reverse'] else 1]
    prompts = {order[0]: video['objects'][number]}
    prompts |= {int(f): names[number] for f, names in video['corrections'].items()}
    store = MemoryStore()
    outputs = []
    for frame in order:
        is_first = frame == order[0]
        query = MemoryQuery(
            frame_index=frame,
            num_video_frames=count,
            mode=TrackingMode.EVALUATION,
            reverse=video['reverse'],
        )
        points = _points(case, prompts[frame]) if frame in prompts else None
        task = FrameTask(
            query=query,
            prompt=None if points is None else FramePrompt(points=points),
            uses_memory=not is_first,
            reread_prompt=True,
        )
        own = features.select(torch.tensor([frame]))
        outputs.append(track_frame(model.heads, own, store, task))
        store.add(frame, outputs[-1].memory, conditioning=is_first)
    return outputs
