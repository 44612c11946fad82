"""Scripts written for SAM 2's release run, and give what ours gives."""

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import projects.sam2
from projects.sam2.apis import automatic_mask_generator as automatic_masks
from projects.sam2.apis import build_sam2, load_model_config
from released_scripts import SCRIPTS, Files
from toy_videos import SIZE, toy_frames
from vos_folders import write_vos_model

ROOT = Path(projects.sam2.__file__).parents[2]


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A small model, an image and a video."""
    root = tmp_path_factory.mktemp('scripts')
    config, checkpoint = write_vos_model(root)
    video = root / 'video'
    video.mkdir()
    for index, frame in enumerate(toy_frames(4)):
        Image.fromarray(frame).save(video / f'{index:05d}.jpg', quality=95)
    return Files(config, checkpoint, video / '00000.jpg', video)


@pytest.fixture(autouse=True)
def _aliases() -> Iterator[None]:
    """``sam2`` is this project, for the time of a test."""
    finder = import_module('projects.sam2.as_sam2.finder')
    finder.install()
    yield
    finder.uninstall()


def _assert_same(actual: Any, expected: Any) -> None:
    """Equal within the rounding of other sums."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            _assert_same(ours, theirs)
    elif isinstance(expected, np.ndarray | float):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    else:
        assert actual == expected


@pytest.mark.parametrize('name', SCRIPTS)
def test_released_script_equals_our_calls(
    name: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        'CONFIG': files.config,
        'CHECKPOINT': files.checkpoint,
        'IMAGE': files.image,
        'VIDEO': files.video,
    }
    hub = {'facebook/sam2.1-hiera-tiny': (files.config, files.checkpoint)}
    monkeypatch.setattr(automatic_masks, 'find_pretrained', hub.get)
    exec(SCRIPTS[name].text, given)  # noqa: S102  our own text
    _assert_same(given['result'], SCRIPTS[name].expected(files))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('import sam2._C', r'sam2\._C is not part .*no compiled extension is needed'),
        ('from sam2.build_sam import build_sam2_camera_predictor', 'use .*SAM2Stream'),
        ('import sam2.sam2_camera_predictor', 'SAM2Stream'),
        ('import sam2.configs.sam2_hiera', 'found by their released names'),
        ('import sam2.modeling.rope', r'from_the_release\.md lists'),
        ('from sam2.utils.amg import nothing', "cannot import name 'nothing'"),
    ],
)
def test_missing_name_is_an_error_with_a_remedy(line: str, message: str) -> None:
    with pytest.raises(ImportError, match=message):
        exec(line, {})  # noqa: S102  our own text


def test_every_name_is_found() -> None:
    finder = import_module('projects.sam2.as_sam2.finder')
    for module, names in finder.MODULES.items():
        alias = import_module(module)
        assert all(getattr(alias, name) is not None for name in names)
    with pytest.raises(AttributeError, match=r"amg of this project has no 'x'; docs/"):
        getattr(sys.modules['sam2.utils.amg'], 'x')  # noqa: B009


def test_configs_are_found_relative_to_the_package() -> None:
    sam2 = import_module('sam2')
    package = Path(sam2.__file__ or '')
    assert package == ROOT / 'projects' / 'sam2' / 'as_sam2' / '__init__.py'
    assert import_module('sam2.build_sam').__file__ == str(package)
    for folder in (package.parent, Path(sam2.__path__[0])):
        name = str(folder / 'configs' / 'sam2.1' / 'sam2.1_hiera_t.yaml')
        assert load_model_config(name).model.type == 'SAM2'
    with pytest.raises(ModuleNotFoundError, match='not part of this project'):
        import_module('sam2.finder')  # ours beside it is not of the package


def test_another_sam2_that_is_imported_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finder = import_module('projects.sam2.as_sam2.finder')
    finder.uninstall()
    real = ModuleType('sam2')
    real.__file__ = '/somewhere/sam2/__init__.py'
    monkeypatch.setitem(sys.modules, 'sam2', real)
    with pytest.raises(ImportError, match=r'imported already, from /somewhere/sam2/__'):
        finder.install()
    assert not any(isinstance(f, finder.AliasFinder) for f in sys.meta_path)


def test_unchanged_script_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> object:
        monkeypatch.setattr(sys, 'argv', ['as_sam2', *arguments])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module('projects.sam2.as_sam2.__main__', run_name='__main__')
        return ended.value.code

    (tmp_path / 'beside_the_script.py').write_text('WORD = "helped"\n')
    (tmp_path / 'script.py').write_text(
        'import sys\n'
        'from beside_the_script import WORD\n'
        'from sam2.build_sam import build_sam2\n'
        'if __name__ == "__main__":\n'
        '    print(WORD, build_sam2.__module__, sys.argv[1:])\n'
        '    sys.exit(3)\n'
    )
    assert run(str(tmp_path / 'script.py'), '--a', '1') == 3
    printed = capsys.readouterr().out
    assert printed == "helped projects.sam2.apis.building ['--a', '1']\n"
    assert str(run('lost.py')).startswith('There is no script lost.py; Usage: python')


def test_import_of_the_project_alone_changes_nothing(tmp_path: Path) -> None:
    code = (
        'import sys, projects.sam2; before = list(sys.meta_path)\n'
        'assert not any(name.partition(".")[0] == "sam2" for name in sys.modules)\n'
        'assert "projects.sam2.as_sam2" not in sys.modules\n'
        'import projects.sam2.as_sam2\n'
        'assert sys.meta_path[1:] == before\n'
        'import sam2.build_sam\n'
    )
    subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
        check=True,
    )


def test_helpers_of_the_mask_generator() -> None:
    amg = import_module('projects.sam2.as_sam2.amg')
    data = amg.MaskData(
        ious=torch.tensor([0.1, 0.9, 0.5], dtype=torch.bfloat16),
        points=np.array([[1, 2], [3, 4], [5, 6]]),
        rles=['a', 'b', 'c'],
    )
    data.filter(data['ious'] > 0.3)
    data.filter(torch.tensor([1, 0]))
    other = amg.MaskData(ious=torch.ones(1), points=np.array([[7, 8]]), rles=['d'])
    other['boxes'] = torch.zeros(1, 4)
    data.cat(other)
    del data['boxes']
    data.to_numpy()
    stats = dict(data.items())
    assert stats['rles'] == ['c', 'b', 'd']
    assert stats['points'].tolist() == [[5, 6], [3, 4], [7, 8]]
    np.testing.assert_allclose(stats['ious'], [0.5, 0.9, 1], atol=0.01)
    with pytest.raises(TypeError, match='area is a int; give a list'):
        data['area'] = 3
    crop = [2, 1, 5, 3]
    boxes = torch.tensor([[0, 0, 2, 1]])
    assert amg.uncrop_boxes_xyxy(boxes, crop).tolist() == [[2, 1, 4, 2]]
    assert amg.uncrop_points(torch.tensor([[1, 1]]), crop).tolist() == [[3, 2]]
    whole = amg.uncrop_masks(torch.ones(1, 2, 3), crop, 4, 6)
    assert whole.nonzero()[:, 1:].tolist() == [
        [y, x] for y in (1, 2) for x in (2, 3, 4)
    ]
    corners = [[0, 0], [0, 15], [25, 0], [25, 15]]
    crops, layers = amg.generate_crop_boxes((40, 60), 1, 0.25)
    assert crops == [[0, 0, 60, 40], *([x, y, x + 35, y + 25] for x, y in corners)]
    assert layers == [0, 1, 1, 1, 1]
    grids = amg.build_all_layer_point_grids(4, 2, 2)
    assert [len(grid) for grid in grids] == [16, 4, 1]
    near = amg.is_box_near_crop_edge(
        torch.tensor([[0, 0, 34, 10], [0, 0, 9, 9]]),
        [0, 0, 35, 25],
        [0, 0, 60, 40],
        atol=2,
    )
    assert near.tolist() == [True, False]
    with pytest.raises(ValueError, match=r'lengths \[1, 2\]; give one length'):
        list(amg.batch_iterator(2, [1, 2], 'a'))
    assert list(amg.batch_iterator(2, [1, 2, 3], 'abc')) == [
        [[1, 2], 'ab'],
        [[3], 'c'],
    ]


@pytest.mark.parametrize('mode', ['holes', 'islands'])
def test_small_regions_are_filled_or_removed(mode: str) -> None:
    amg = import_module('projects.sam2.as_sam2.amg')
    mask = np.zeros((12, 12), bool)
    mask[1:7, 1:7] = True
    mask[3, 3] = False  # a hole of one pixel
    mask[9:11, 9:11] = True  # an island of four
    clean, changed = amg.remove_small_regions(mask, 5, mode)
    expected = mask.copy()
    if mode == 'holes':
        expected[3, 3] = True
    else:
        expected[9:11, 9:11] = False
    assert changed
    assert np.array_equal(clean, expected)
    same, changed = amg.remove_small_regions(mask, 1, mode)
    assert same is mask
    assert not changed
    with pytest.raises(ValueError, match="mode is 'dots'; give 'holes' or"):
        amg.remove_small_regions(mask, 1, 'dots')
    largest, changed = amg.remove_small_regions(mask, 1000, 'islands')
    assert changed
    assert largest.sum() == 35


def test_helpers_of_masks_points_and_checkpoints(files: Files) -> None:
    misc = import_module('projects.sam2.as_sam2.misc')
    logits = torch.ones(1, 1, 5, 5)
    logits[..., 2, 2] = -1.0
    filled = misc.fill_holes_in_mask_scores(logits, 1)
    assert filled[0, 0, 2, 2] == pytest.approx(0.1)
    first = misc.concat_points(None, torch.ones(1, 1, 2), torch.ones(1, 1))
    both = misc.concat_points(first, torch.zeros(1, 2, 2), torch.zeros(1, 2))
    assert both['point_coords'].shape == (1, 3, 2)
    assert both['point_labels'].tolist() == [[1, 0, 0]]
    expected = files.model()
    model = build_sam2(files.config, device='cpu')
    misc.load_checkpoint(model, None)
    misc.load_checkpoint(model, files.checkpoint)
    weights = zip(model.parameters(), expected.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in weights)


def test_frames_of_a_video_have_its_size(files: Files) -> None:
    misc = import_module('projects.sam2.as_sam2.misc')
    frames, height, width = misc.load_video_frames(files.video, 64)
    assert (height, width) == SIZE
    assert frames.shape == (4, 3, 64, 64)
