"""The export to ONNX: equal to torch, without torch, and clear about bad input."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.apis import SAM2ImagePredictor, SAM2VideoPredictor
from projects.sam2.apis.building import build_for_export
from projects.sam2.datasets.sources.cells import draw_clip
from projects.sam2.deployment import (
    GRAPHS,
    example_inputs,
    export_onnx,
    read_manifest,
)
from projects.sam2.deployment.exporting import CHECKED_SIZES, largest_error
from projects.sam2.deployment.half_precision import use_half_precision
from projects.sam2.models import SAM2
from tool_modules import ROOT

PAGE = ROOT / 'docs' / 'how_to' / 'export_onnx.md'
NO_TORCH = "import sys; sys.modules['torch'] = sys.modules['mmengine'] = None\n"
SIZES = (*CHECKED_SIZES, {'num_objects': 1, 'num_pointers': 1, 'num_points': 1})


CLICK = (107, 31)


@pytest.fixture(scope='module')
def frames() -> list[NDArray[np.uint8]]:
    """A clip at the size of the mini model, with a cell at CLICK."""
    return [cv2.resize(frame, (128, 128)) for frame in draw_clip(3)[0][:6]]


@pytest.fixture(scope='module')
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of the page."""
    (code,) = re.findall(r'```python\n(# sam2_onnx.py\n.*?)```', PAGE.read_text(), re.S)
    path = tmp_path_factory.mktemp('script') / 'sam2_onnx.py'
    path.write_text(NO_TORCH + code, encoding='utf-8')
    return path


def open_session(path: Path) -> Any:
    """Load a graph."""
    return onnxruntime.InferenceSession(path)  # type: ignore[attr-defined]  # theirs


def run_script(script: Path, *arguments: object) -> list[NDArray[np.bool_]]:
    """Masks that the script writes, in a process that cannot import torch."""
    out = script.parent / 'out'
    shutil.rmtree(out, ignore_errors=True)
    export, file, *point = arguments
    command = [sys.executable, script, export, file, out, *point]
    subprocess.run([str(word) for word in command], check=True, cwd=script.parent)
    return [np.asarray(Image.open(path)) > 0 for path in sorted(out.iterdir())]


def test_script_without_torch_tracks_as_the_predictor(
    mini_model: SAM2,
    mini_onnx: Path,
    frames: list[NDArray[np.uint8]],
    script: Path,
    tmp_path: Path,
) -> None:
    for index, frame in enumerate(frames):
        path = tmp_path / f'{index:05d}.png'
        cv2.imwrite(str(path), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    tracked = run_script(script, mini_onnx, tmp_path / '%05d.png', *CLICK)
    (segmented,) = run_script(script, mini_onnx, tmp_path / '00000.png', *CLICK)
    predictor = SAM2VideoPredictor(mini_model, memory_dtype=torch.float32)
    state = predictor.init_state(np.stack(frames))
    predictor.add_new_points_or_box(state, 0, 1, points=[CLICK], labels=[1])
    results = predictor.propagate_in_video(state)
    expected = [(result.mask_logits[0, 0] > 0).numpy() for result in results]
    assert sum(mask.any() for mask in expected) > 3  # not all are empty
    np.testing.assert_array_equal(tracked, expected)
    image_predictor = SAM2ImagePredictor(mini_model)
    image_predictor.set_image(frames[0])
    masks, ious, _ = image_predictor.predict(
        point_coords=np.array([CLICK]), point_labels=np.array([1])
    )
    np.testing.assert_array_equal(segmented, masks[int(ious.argmax())] > 0)


@pytest.mark.parametrize('name', GRAPHS)
def test_graph_equals_torch_for_any_numbers_of_objects_points_and_memories(
    name: str, mini_model: SAM2, mini_onnx: Path
) -> None:
    session = open_session(mini_onnx / f'{name}.onnx')

    def run(inputs: Any) -> Any:
        outputs = session.run(None, {key: x.numpy() for key, x in inputs.items()})
        return map(torch.from_numpy, outputs)

    samples = [example_inputs(mini_model, **sizes)[name] for sizes in SIZES]
    assert largest_error(GRAPHS[name](mini_model), run, samples) < 1e-5


def test_names_and_shapes_of_files_manifest_and_page_are_those_of_the_graphs(
    mini_onnx: Path,
) -> None:
    manifest, page = read_manifest(mini_onnx), PAGE.read_text()
    for name, graph in GRAPHS.items():
        session = open_session(mini_onnx / f'{name}.onnx')
        for in_file, described, specs in (
            (session.get_inputs(), manifest.graphs[name].inputs, graph.inputs),
            (session.get_outputs(), manifest.graphs[name].outputs, graph.outputs),
        ):
            assert [tensor.name for tensor in in_file] == [x.name for x in described]
            assert [(*x.shape,) for x in in_file] == [x.shape for x in described]
            cells = (
                f'`{spec.name}` {" x ".join(map(str, spec.shape))}'
                + ('' if spec.dtype == 'float32' else f' {spec.dtype}')
                for spec in specs
            )
            assert f'| {"<br>".join(cells)} |' in page


def test_half_precision_halves_the_file_and_keeps_coordinates_exact(
    mini_model: SAM2, mini_onnx: Path, tmp_path: Path
) -> None:
    path = tmp_path / 'decode.onnx'
    model = onnx_ir.load(mini_onnx / 'decode.onnx')
    use_half_precision(model)
    onnx_ir.save(model, path)
    assert path.stat().st_size < 0.7 * (mini_onnx / 'decode.onnx').stat().st_size
    session = open_session(path)
    inputs = example_inputs(mini_model)['decode']
    # float16 has a step of 1 / 8 there.
    inputs['point_coords'] = inputs['point_coords'] % 1 + 255.5

    def run(inputs: Any) -> Any:
        outputs = session.run(None, {key: x.numpy() for key, x in inputs.items()})
        return map(torch.from_numpy, outputs)

    assert largest_error(GRAPHS['decode'](mini_model), run, [inputs]) < 2e-2
    (sine,) = (node for node in model.graph if node.op_type == 'Sin')
    assert not any(x.dtype == onnx_ir.DataType.FLOAT16 for x in sources_of(sine))


def sources_of(node: onnx_ir.Node) -> Iterator[onnx_ir.Value]:
    """All values that a node depends on."""
    for value in filter(None, node.inputs):
        yield value
        if producer := value.producer():
            yield from sources_of(producer)


def test_export_has_the_adapters_in_its_weights(tmp_path: Path) -> None:
    config = Config.fromfile(ROOT / 'configs' / '_base_' / 'models' / 'sam2_1_mini.py')
    config.model.adaptations = [
        dict(type='SAM2LowRankAdapters', layers=['mask_decoder.transformer'], rank=2)
    ]
    adapted = MODELS.build(config.model).eval()
    for name, parameter in adapted.named_parameters():
        if 'lora_' in name:
            torch.nn.init.normal_(parameter, std=0.1)
    checkpoint = tmp_path / 'adapted.pth'
    torch.save(adapted.state_dict(), checkpoint)
    plain, _ = build_for_export(config, checkpoint)
    assert not any('lora_' in name for name in plain.state_dict())
    inputs = example_inputs(plain)['decode']
    expected = GRAPHS['decode'](adapted).run(inputs)
    for name, output in GRAPHS['decode'](plain).run(inputs).items():
        torch.testing.assert_close(output, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        ({'opset': 17}, 'Opset 17 is not supported.* 18 to 23'),
        ({'folder': 'out'}, 'is a file; give the folder'),
        ({'folder': 'out/inside'}, 'cannot be written to .*give another folder'),
        ({'missing': 'onnxscript'}, 'pip install .*onnxscript'),
        ({'training': True}, 'in training mode; call model.eval'),
    ],
)
def test_bad_request_is_one_clear_error(
    options: dict[str, Any],
    error: str,
    mini: tuple[SAM2, Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, config = mini
    (tmp_path / 'out').write_text('not a folder')
    folder = tmp_path / options.pop('folder', 'new')
    if missing := options.pop('missing', None):
        monkeypatch.setitem(sys.modules, missing, None)
    if options.pop('training', None):
        monkeypatch.setattr(model, 'training', True)
    with pytest.raises((ValueError, OSError, ImportError), match=error):
        export_onnx(model, folder, config=config, **options)


@pytest.mark.parametrize(
    ('content', 'error'),
    [
        (None, 'is no exported model: it has no sam2.json'),
        ('{', 'is damaged'),
        ('{}', 'is no manifest'),
        ({'format_number': 99}, 'has format 99.*update mmsam2'),
        ({'format_number': '2'}, "has format '2'.*update mmsam2"),
        ({'graphs': {'encode': {}}}, 'is damaged'),
        ({'runtime': 'tflite'}, "is damaged.*'tflite'"),
        ({'image_size': ['a', 'b']}, 'is damaged'),
        ({'mean': [0.5]}, 'is damaged'),
        ('[' * 100_000, 'is damaged'),
    ],
)
def test_bad_manifest_is_one_clear_error(
    content: Any, error: str, mini_onnx: Path, tmp_path: Path
) -> None:
    if isinstance(content, dict):
        good = json.loads((mini_onnx / 'sam2.json').read_text())
        content = json.dumps(good | content)
    if content is not None:
        (tmp_path / 'sam2.json').write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        read_manifest(tmp_path)
