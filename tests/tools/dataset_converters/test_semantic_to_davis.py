"""The command that converts label images."""

from pathlib import Path

import pytest

from data_folders import write_label_images
from projects.sam2.datasets import ClipPaletteDataset
from tool_modules import load_tool


@pytest.mark.parametrize(
    ('options', 'num_objects'),
    [
        ([], 2),
        (['--regions'], 2),
        (['--min-pixels', '90'], 1),
        (['--background', '0', '2'], 1),
        (['--void', '1'], 1),
    ],
)
def test_labels_become_objects(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    num_objects: int,
) -> None:
    write_label_images(tmp_path)
    out = tmp_path / 'davis'
    words = [str(tmp_path / 'images'), str(tmp_path / 'labels'), str(out), *options]
    assert load_tool('dataset_converters/semantic_to_davis').main(words) == 0
    assert f'1 clips, 1 frames, {num_objects} objects' in capsys.readouterr().out
    dataset = ClipPaletteDataset(data_root=str(out))
    assert len(dataset.open_video('ant').object_ids()) == num_objects
