"""The command that converts LabelMe."""

from pathlib import Path

import pytest

from data_folders import write_labelme
from projects.sam2.datasets import ClipPaletteDataset
from tool_modules import load_tool


@pytest.mark.parametrize('apart', [False, True])
def test_shapes_become_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, apart: bool
) -> None:
    source, images = tmp_path / 'source', tmp_path / 'images'
    write_labelme(source)
    words = [str(source), str(tmp_path / 'davis'), '--split', 'val']
    if apart:
        images.mkdir()
        (source / 'ant.jpg').rename(images / 'ant.jpg')
        words += ['--images', str(images)]
    assert load_tool('dataset_converters/labelme_to_davis').main(words) == 0
    assert '1 clips, 1 frames, 2 objects' in capsys.readouterr().out
    dataset = ClipPaletteDataset(
        data_root=str(tmp_path / 'davis'), file_list='ImageSets/val.txt'
    )
    assert dataset.open_video('ant').object_ids() == (1, 2)
