"""What the commands that write DAVIS layout say."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from projects.sam2.datasets.processing.checking import ClipProblem
from projects.sam2.datasets.processing.davis_export import Conversion, DavisClip
from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
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


def test_overlaps_are_told_where_there_are_some(tool: ModuleType) -> None:
    (line,) = tool.describe(Conversion(clips=(clip(), clip())), Path('out'))
    assert line.startswith('out: 2 clips, 6 frames, 4 objects; 0 clips could not')
    _, told = tool.describe(Conversion(clips=(clip(4),)), Path('out'))
    assert 'On 4 frames masks overlap' in told
    assert '2 masks are covered' in told


def test_many_problems_are_cut_short(tool: ModuleType) -> None:
    problems = tuple(ClipProblem(clip=str(i), problem='gone') for i in range(32))
    lines = tool.describe(Conversion(clips=(clip(),), problems=problems), Path('out'))
    assert lines[1] == '  ! 0: gone'
    assert lines[-1] == '  ! and 2 more'
    assert len(lines) == 32
