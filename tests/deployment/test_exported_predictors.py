"""Predictors on an exported model: the results of torch, and errors in one line."""

import copy
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config

from projects.sam2.apis import (
    SAM2Inferencer,
    SAM2VideoPredictor,
    build_sam2,
    build_sam2_video_predictor,
)
from projects.sam2.datasets.io.images import read_labels, write_jpeg
from projects.sam2.datasets.sources.synthetic import RenderedVideoSource
from projects.sam2.deployment import (
    ExportedSAM2,
    ModuleRunner,
    OnnxRunner,
    SAM2Exported,
    load_exported,
    read_manifest,
)
from projects.sam2.engine.run_options import apply_export
from projects.sam2.installation import WEIGHTS
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.promptable import PromptableModel
from projects.sam2.models.tracking.session import VideoSession
from projects.sam2.structures import FramePrompt, PointPrompt, VideoRecord
from projects.sam2.webdemo.models import ModelStore
from tool_modules import load_tool

NUM_FRAMES = 10
MINI = '_base_/models/sam2_1_mini.py'
MINI_WEIGHTS = WEIGHTS / 'sam2_mini.pth'


@pytest.fixture(scope='module')
def session() -> ModuleType:
    return load_tool('benchmarks/exported_session')


@pytest.fixture(scope='module')
def clip(session: ModuleType) -> Any:
    return session.draw_clip(NUM_FRAMES)


@pytest.fixture(scope='module')
def exported(mini_onnx: Path) -> ExportedSAM2:
    return load_exported(mini_onnx, device='cpu')


@pytest.mark.parametrize(
    'options',
    [
        {},
        {
            'fill_hole_area': 8,
            'max_batch_objects': 2,
            'add_all_frames_to_correct_as_cond': True,
            'archive_spatial_memories': True,
        },
    ],
    ids=['default', 'others'],
)
def test_a_video_session_is_that_of_torch(
    session: ModuleType,
    clip: Any,
    mini_model: SAM2,
    exported: ExportedSAM2,
    options: dict[str, Any],
) -> None:
    """Clicks, a box, a mask, corrections, a late object, both directions, a copy."""
    options = {'memory_dtype': torch.float32, **options}
    with torch.no_grad():
        expected = session.run_video(SAM2VideoPredictor(mini_model, **options), clip)
    actual = session.run_video(SAM2VideoPredictor(exported, **options), clip)
    difference = session.compare_videos(actual, expected)
    assert difference.num_masks > NUM_FRAMES * session.NUM_OBJECTS
    assert difference.largest < session.MAX_DIFFERENCE
    for name in ('object_score_logits', 'ious'):
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(
                getattr(ours, name),
                getattr(theirs, name),
                rtol=1e-4,
                atol=1e-4,
                equal_nan=True,
            )


def test_absent_objects_are_those_of_torch(
    clip: Any, mini_model: SAM2, mini_onnx: Path
) -> None:
    """Two objects are prompted together, by a model that finds some of them absent."""
    model = copy.deepcopy(mini_model)
    points = PointPrompt(
        coords=torch.tensor([[[30.0, 30.0]], [[90.0, 90.0]]]),
        labels=torch.ones(2, 1, dtype=torch.int32),
    )

    def outputs(model: PromptableModel) -> dict[str, list[torch.Tensor]]:
        session = VideoSession(model, clip.frames.__getitem__, NUM_FRAMES)
        (step,) = session.add_prompt(0, [1, 2], FramePrompt(points=points)).steps
        steps = [step]
        for frame in range(NUM_FRAMES):
            steps += [batch.output.final for batch in session.step(frame)]
        names = ('mask_logits', 'object_pointer', 'object_score_logits')
        return {name: [getattr(step, name) for step in steps] for name in names}

    scores = torch.cat(outputs(model)['object_score_logits'])
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias -= scores.median()
    expected = outputs(model)
    actual = outputs(ExportedSAM2(read_manifest(mini_onnx), ModuleRunner(model)))
    is_present = torch.cat(expected['object_score_logits']) > 0
    assert is_present.any()
    assert not is_present.all()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-3)


def test_a_predictor_is_built_from_the_folder_and_streams_like_torch(
    session: ModuleType, clip: Any, mini_model: SAM2, mini_onnx: Path
) -> None:
    predictor = build_sam2_video_predictor(mini_onnx, device='cpu')
    again = SAM2VideoPredictor.from_pretrained(str(mini_onnx), device='cpu')
    assert predictor.fill_hole_area == again.fill_hole_area == 8
    assert again.eval() is again
    assert again.device == torch.device('cpu')
    expected = SAM2VideoPredictor(mini_model, fill_hole_area=8)
    with torch.no_grad():
        difference = session.compare_videos(
            session.run_stream(predictor, clip), session.run_stream(expected, clip)
        )
    assert difference.rms < session.MAX_DIFFERENCE  # its memories are bfloat16


def test_images_and_automatic_masks_are_those_of_torch(
    session: ModuleType, clip: Any, mini_model: SAM2, exported: ExportedSAM2
) -> None:
    actual, expected = (
        session.run_image(model, clip) for model in (exported, mini_model)
    )
    for ours, theirs in zip(actual, expected, strict=True):
        scale = np.sqrt(np.square(theirs).mean())
        assert np.abs(ours - theirs).max() < session.MAX_DIFFERENCE * scale
    num_masks, num_equal = session.same_automatic_masks(exported, mini_model, clip)
    assert num_masks == num_equal > 1


def test_validation_gives_the_scores_of_torch(
    mini: tuple[SAM2, Config], clip: Any, mini_onnx: Path
) -> None:
    model, config = mini
    record = VideoRecord(
        metainfo={'source': RenderedVideoSource(name='a', clip=clip), 'sample_index': 0}
    )
    evaluated = Config(config.to_dict())
    apply_export(evaluated, str(mini_onnx))
    arguments = {k: v for k, v in evaluated.model.items() if k != 'type'}
    (expected,) = model([record], mode='predict')
    (actual,) = SAM2Exported(**arguments)([record], mode='predict')
    assert len(actual.scores.objects) > 1
    for ours, theirs in zip(
        actual.scores.objects, expected.scores.objects, strict=True
    ):
        assert (ours.j, ours.f) == pytest.approx((theirs.j, theirs.f), abs=1e-3)
    evaluated.model.options['mask_decoder.stability_selection'] = False
    with pytest.raises(ValueError, match='cannot become False: it is True'):
        SAM2Exported(**arguments)


def test_tools_and_the_demo_take_the_folder(
    session: ModuleType, clip: Any, mini_onnx: Path, tmp_path: Path
) -> None:
    image, box = tmp_path / 'a.jpg', session.box_of(clip.labels[0] == 1)
    write_jpeg(image, clip.frames[0], 95)
    corners = ['--box', *map(str, box)]
    masks = []
    for name, model in {'a': [str(mini_onnx)], 'b': [MINI, str(MINI_WEIGHTS)]}.items():
        # Options may stand before the model.
        arguments = [str(image), '--device', 'cpu', *model, *corners]
        out = tmp_path / name
        load_tool('predict').main([*arguments, '--out-dir', str(out)])
        masks.append(read_labels(next((out / 'pred').rglob('*.png'))))
    np.testing.assert_array_equal(masks[0], masks[1])
    assert masks[0].any()
    store = ModelStore(checkpoint=str(mini_onnx), device='cpu')
    assert store.describe()['checkpoint'] == str(mini_onnx)
    running: object = store.predictor.model
    assert isinstance(running, ExportedSAM2)


Builder = Callable[[Path], object]


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda f: build_sam2(f, mode='train'), 'only predicts; leave out mode='),
        (lambda f: build_sam2(f, MINI_WEIGHTS), 'only predicts; leave out ckpt_path'),
        (lambda f: build_sam2(f, compile=True), 'only predicts; leave out compile'),
        (lambda f: build_sam2(MINI, f), 'give it alone, without a config'),
        (lambda f: build_sam2(MINI, provider='cuda'), 'is of exported models'),
        (lambda f: build_sam2(f, image_size=(64, 64)), r'it is \(128, 128\) in its'),
        (
            lambda f: build_sam2(f, device='cpu', provider='gpu'),
            'one or several of cpu',
        ),
        (lambda f: build_sam2(f, provider='cuda'), 'pip install onnxruntime-gpu'),
        (
            lambda f: build_sam2(f, provider=('tensorrt', 'cuda')),
            "no provider 'tensorr",
        ),
        (
            lambda f: build_sam2(f, hydra_overrides_extra=['++model.num_maskmem=3']),
            'num_frames is 3, but the graphs were exported for 4',
        ),
        (
            lambda f: SAM2VideoPredictor(build_sam2(f, device='cpu')).parameters(),
            "no 'parameters': its weights are inside its graphs",
        ),
        (lambda f: load_exported(f, num_threads=0), 'num_threads is 0; give a whole'),
        (lambda f: SAM2Inferencer(model=f, compile=True), 'leave out compile'),
        (lambda f: build_sam2(f / 'sam2.json'), 'is no config'),
    ],
)
def test_what_an_export_cannot_do_is_one_line(
    build: Builder, message: str, mini_onnx: Path
) -> None:
    with pytest.raises((ValueError, AttributeError), match=message):
        build(mini_onnx)


def test_memory_bank_may_be_changed(mini_onnx: Path) -> None:
    changes = ['++model.max_obj_ptrs_in_encoder=4', '++model.num_maskmem=4']
    model = build_sam2(mini_onnx, device='cpu', hydra_overrides_extra=changes)
    assert model.tracker.memory_bank.max_pointers == 4
    predictor: Any = SAM2VideoPredictor(model)  # released names, as scripts set them
    assert (predictor.image_size, predictor.num_maskmem) == (128, 4)
    predictor.max_cond_frames_in_attn = 3
    predictor.non_overlap_masks_for_mem_enc = True
    assert model.tracker.memory_bank.max_conditioning_frames == 3
    assert model.tracker.non_overlapping_memories
    with pytest.raises(AttributeError, match='image_size'):
        predictor.image_size = 64
    plain = build_sam2(mini_onnx, device='cpu', apply_postprocessing=False)
    assert not plain.tracker.binary_clicked_memories


def test_inputs_of_a_graph_are_checked(mini_model: SAM2, mini_onnx: Path) -> None:
    runner = OnnxRunner(mini_onnx, device='cpu', num_threads=2)
    mask = torch.zeros(2, 1, 128, 128)
    embedding = torch.zeros(1, 64, 8, 8)
    inputs = {'embedding': embedding, 'mask_probs': mask}
    with pytest.raises(ValueError, match='remember takes embedding, mask_probs, pres'):
        runner.run('remember', inputs)
    present = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r'present as bool of \(O, 1\) with O=2'):
        runner.run('remember', {**inputs, 'present': present})
    present = torch.ones(3, 1, dtype=torch.bool)
    with pytest.raises(ValueError, match=r'with O=2, but got bool of \(3, 1\)'):
        runner.run('remember', {**inputs, 'present': present})
    nothing = {'embedding': embedding, 'mask': mask[:0]}
    with pytest.raises(ValueError, match='mask_prompt got O=0; give at least 1'):
        runner.run('mask_prompt', nothing)
    inputs = {**inputs, 'present': present[:2]}
    (actual,) = runner.run('remember', inputs).values()
    (expected,) = ModuleRunner(mini_model).run('remember', inputs).values()
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def copied(mini_onnx: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini_onnx, tmp_path / 'copied'))


def test_another_process_opens_the_export_again(mini_onnx: Path) -> None:
    model = load_exported(mini_onnx, device='cpu', num_threads=1)
    frames = torch.rand(1, 3, 128, 128)
    expected = model.encode(frames).embedding
    other = pickle.loads(pickle.dumps(model))  # noqa: S301  our own
    assert other.runner.num_threads == 1
    torch.testing.assert_close(other.encode(frames).embedding, expected)


def test_damaged_exports_are_one_line(copied: Path) -> None:
    def encode() -> None:
        load_exported(copied, device='cpu').encode(torch.zeros(1, 3, 128, 128))

    graph = copied / 'encode.onnx'
    shutil.copy(copied / 'decode.onnx', graph)
    with pytest.raises(ValueError, match=r'encode\.onnx is not of this export'):
        encode()
    graph.unlink()
    with pytest.raises(FileNotFoundError, match=r'no encode\.onnx; export the model'):
        encode()
    manifest = json.loads((copied / 'sam2.json').read_text())
    del manifest['graphs']['attend']
    (copied / 'sam2.json').write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match='has no graph attend; export the model'):
        encode()


def test_graph_that_an_older_runtime_cannot_load_is_one_line(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        msg = '[ONNXRuntimeError] : 1 : FAIL : Load model from x failed:(a) Max 18.'
        raise RuntimeError(msg)

    monkeypatch.setattr(onnxruntime, 'InferenceSession', refuse)
    with pytest.raises(ValueError, match=r'\(Max 18\.\).*pip install --upgrade'):
        load_exported(copied, device='cpu').encode(torch.zeros(1, 3, 128, 128))


def test_export_of_another_runtime_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / 'sam2.json').read_text())
    manifest['runtime'] = 'export'
    (copied / 'sam2.json').write_text(json.dumps(manifest))
    assert read_manifest(copied).runtime == 'export'
    with pytest.raises(ValueError, match='no ONNX graphs, but export'):
        OnnxRunner(copied)
    with pytest.raises(ValueError, match='torch runs'):
        load_exported(copied, provider='cpu')
