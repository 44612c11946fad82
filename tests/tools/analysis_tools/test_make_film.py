"""The tool that draws a film of a tracked clip."""

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from projects.sam2.apis import build_sam2
from projects.sam2.visualization.drawing import FAINT, POSITIVE
from tool_modules import ROOT, failing_exit_code, load_tool

CONFIG = str(ROOT / 'configs' / 'sam2_mini_synthetic.py')
CLIPS = '--num-clips 1 --num-val-clips 2 --num-frames 8 --num-val-frames 8 --size 96'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('analysis_tools/make_film')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and a set of two clips of eight frames."""
    folder = tmp_path_factory.mktemp('film')
    torch.save({'state_dict': build_sam2(CONFIG).state_dict()}, folder / 'weights.pth')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.argv', ['make', str(folder / 'clips'), *CLIPS.split()])
        load_tool('dataset_converters/make_synthetic_clips').main()
    return folder


def words(folder: Path, out: str, *more: str) -> list[str]:
    files = [CONFIG, str(folder / 'weights.pth'), str(folder / out)]
    data = ['--cfg-options', f'data_root={folder / "clips"}']
    return [*files, '--device', 'cpu', '--side', '192', *more, *data]


def test_film_shows_each_frame_beside_its_masks(tool: ModuleType, folder: Path) -> None:
    more = ('--clip', 'val_00001', '--prompt', 'click', '--objects', '1')
    path = tool.main(words(folder, 'film.png', *more, '--rate', '4'))
    pictures, durations = [], []
    with Image.open(path) as film:
        for picture in ImageSequence.Iterator(film):
            pictures.append(np.asarray(picture.convert('RGB')))
            durations.append(film.info['duration'])
    assert durations == [1500, *[250] * 6, 1500]
    names = sorted((folder / 'clips' / 'JPEGImages' / 'val_00001').iterdir())
    assert len(pictures) == len(names) == 8
    for index, (shown, name) in enumerate(zip(pictures, names, strict=True)):
        frame = np.asarray(Image.open(name).convert('RGB'))
        size = (2 * frame.shape[1], 2 * frame.shape[0])
        large = cv2.resize(frame, size, interpolation=cv2.INTER_LANCZOS4)
        top = 2 * tool.MARGIN + (shown.shape[0] - size[1] - 4 * tool.MARGIN) // 2
        left = tool.MARGIN
        panel = shown[top : top + size[1], left : left + size[0]]
        assert np.array_equal(panel, large)
        tracked = shown[top : top + size[1], left + size[0] :]
        # The click is drawn where the object is prompted, and nowhere else.
        assert (tracked == POSITIVE).all(axis=2).any() == (index == 0)
        bar = (shown[-1] == FAINT).all(axis=1)
        assert bar.mean() == pytest.approx((index + 1) / 8, abs=0.01)


@pytest.mark.parametrize(('kind', 'suffix'), [('mask', '.webp'), ('box', '.gif')])
def test_film_has_a_format_that_browsers_show(
    kind: str, suffix: str, tool: ModuleType, folder: Path
) -> None:
    path = tool.main(words(folder, f'{kind}{suffix}', '--prompt', kind, '--side', '96'))
    with Image.open(path) as film:
        assert film.format == suffix[1:].upper()
        assert film.n_frames == 8  # type: ignore[attr-defined]  # animated
        assert film.info['loop'] == 0


@pytest.mark.parametrize(
    ('out', 'more', 'message'),
    [
        ('film.mp4', (), r'film.mp4 is none of .webp, .gif, .png'),
        ('film.gif', ('--clip', 'val_0001'), "no clip 'val_0001', but val_00001"),
        ('film.gif', ('--objects', '9'), 'val_00000 shows objects'),
        ('film.gif', ('--rate', '0'), '--rate is above 0'),
        ('film.gif', ('--quality', '200'), '--quality is 0 to 100'),
    ],
)
def test_mistake_is_one_line(
    out: str,
    more: tuple[str, ...],
    message: str,
    tool: ModuleType,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert failing_exit_code(tool, words(folder, out, *more)) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / out).exists()
