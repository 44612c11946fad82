"""The command that converts COCO."""

from pathlib import Path

import pytest

from data_folders import write_coco
from projects.sam2.datasets import ClipPaletteDataset
from tool_modules import load_tool


def test_annotations_become_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path)
    out = tmp_path / 'davis'
    annotations = tmp_path / 'annotations' / 'instances_train2017.json'
    words = [str(annotations), str(tmp_path / 'train2017'), str(out)]
    tool = load_tool('dataset_converters/coco_to_davis')
    assert tool.main(words) == 0
    assert '1 clips, 1 frames, 2 objects' in capsys.readouterr().out
    dataset = ClipPaletteDataset(data_root=str(out), file_list='ImageSets/train.txt')
    assert dataset.open_video('ant').object_ids() == (1, 2)
    assert tool.main(words) == 0
    assert 'holds these clips already' in capsys.readouterr().out
