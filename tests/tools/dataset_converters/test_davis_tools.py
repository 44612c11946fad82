"""The tools that convert to DAVIS layout."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from data_folders import write_coco, write_label_images, write_labelme, write_sav
from projects.sam2.datasets import ClipPaletteDataset
from projects.sam2.datasets.processing.davis_export import Conversion, DavisClip
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


def test_coco_annotations_become_objects(
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


@pytest.mark.parametrize('apart', [False, True])
def test_labelme_shapes_become_objects(
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


@pytest.fixture(scope='module')
def davis_command() -> ModuleType:
    load_tool('dataset_converters/coco_to_davis')  # as a command imports it
    return sys.modules['davis_command']


def clip(num_overlaps: int = 0) -> DavisClip:
    return DavisClip(
        name='ant',
        source_ids=(5, 6),
        num_frames=3,
        num_masks=2,
        num_overlaps=num_overlaps,
        num_covered=num_overlaps // 2,
    )


def test_overlaps_are_reported(davis_command: ModuleType) -> None:
    (line,) = davis_command.describe(Conversion(clips=(clip(), clip())), Path('out'))
    assert line.startswith('out: 2 clips, 6 frames, 4 objects; 0 clips could not')
    _, description = davis_command.describe(Conversion(clips=(clip(4),)), Path('out'))
    assert 'Masks overlap on 4 frames' in description
    assert '2 masks are covered' in description


def test_long_list_of_problems_is_cut(davis_command: ModuleType) -> None:
    problems = {str(i): 'gone' for i in range(32)}
    lines = davis_command.describe(
        Conversion(clips=(clip(),), problems=problems), Path('out')
    )
    assert lines[1] == '  ! 0: gone'
    assert lines[-1] == '  ! and 2 more'
    assert len(lines) == 32
