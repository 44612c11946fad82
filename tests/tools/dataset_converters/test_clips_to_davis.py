"""The command that converts clips of any source."""

from pathlib import Path

import pytest

from data_folders import write_sav
from projects.sam2.datasets import ClipPaletteDataset
from tool_modules import load_tool


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Of a source of videos."""
    write_sav(tmp_path / 'sav')
    file = tmp_path / 'config.py'
    file.write_text(
        f"dataset = dict(type='ClipSAVDataset', data_root='{tmp_path}/sav')\n"
        "val_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[\n"
        "    dict(dataset, kinds=('auto',)), dataset]))\n"
    )
    return file


def test_videos_keep_their_frames_and_masks(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'davis'
    tool = load_tool('dataset_converters/clips_to_davis')
    assert tool.main([str(config), str(out)]) == 0
    assert '1 clips, 12 frames, 2 objects' in capsys.readouterr().out
    video = ClipPaletteDataset(data_root=str(out)).open_video('ant')
    assert (video.num_frames, video.annotated_frames()) == (12, (0, 4, 8))


def test_several_sources_are_refused(config: Path, tmp_path: Path) -> None:
    tool = load_tool('dataset_converters/clips_to_davis')
    with pytest.raises(ValueError, match='has 2 sources'):
        tool.main([str(config), str(tmp_path / 'davis'), '--loader', 'val'])
