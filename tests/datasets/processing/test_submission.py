"""Checks and archives of predictions for servers."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_folders import square_maps, write_objects, write_png
from projects.sam2.datasets.io.errors import ClipDataError
from projects.sam2.datasets.processing.submission import (
    LAYOUTS,
    Submission,
    check_submission,
    pack_submission,
)

FRAMES = [f'{index:05}' for index in range(3)]


def write_palette(path: Path, labels: np.ndarray) -> None:
    """Write a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels, mode='P')
    image.putpalette([value // 3 for value in range(768)])
    image.save(path)


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    """Two videos of three frames, all well."""
    for name in ('a', 'b'):
        for stem, labels in square_maps(3).items():
            write_palette(tmp_path / 'pred' / name / f'{stem}.png', labels)
            frame = Image.fromarray(np.zeros((*labels.shape, 3), np.uint8))
            (tmp_path / 'frames' / name).mkdir(parents=True, exist_ok=True)
            frame.save(tmp_path / 'frames' / name / f'{stem}.jpg')
    return Submission(
        root=tmp_path / 'pred',
        names=('a', 'b'),
        layout=LAYOUTS['davis'],
        frames=tmp_path / 'frames',
    )


def drop_video(root: Path) -> None:
    (root / 'b').rename(root / 'c')


def drop_frame(root: Path) -> None:
    (root / 'a' / '00001.png').unlink()


def add_frame(root: Path) -> None:
    write_palette(root / 'a' / '00009.png', square_maps(1)['00000'])


def add_notes(root: Path) -> None:
    (root / 'a' / 'notes.txt').touch()
    (root / 'a' / '.DS_Store').touch()


def shrink(root: Path) -> None:
    write_palette(root / 'a' / '00001.png', np.zeros((4, 5), np.uint8))


def drop_palette(root: Path) -> None:
    write_png(root / 'a' / '00001.png', square_maps(2)['00001'])


def write_void(root: Path) -> None:
    write_palette(root / 'a' / '00001.png', np.full((48, 64), 255, np.uint8))


def damage(root: Path) -> None:
    (root / 'a' / '00001.png').write_bytes(b'nothing')


def write_folders(root: Path) -> None:
    for path in (root / 'a').iterdir():
        path.unlink()
    write_objects(root / 'a', square_maps(3))


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (drop_video, ['b: is missing', 'c: is not in the list']),
        (drop_frame, ['a/00001.png: is missing']),
        (add_frame, ['a/00009.png: there is no such frame']),
        (add_notes, ['a/notes.txt: is no PNG']),
        (shrink, ['is 4 x 5, expected 48 x 64']),
        (drop_palette, ['has mode L, the server expects a palette']),
        (write_void, ['holds 255, the void label']),
        (damage, ['00001.png: cannot be read']),
        (write_folders, ['a: the server expects PNG']),
    ],
)
def test_what_a_server_would_reject_is_reported(
    submission: Submission, change: Callable[[Path], None], expected: list[str]
) -> None:
    assert check_submission(submission) == []
    change(submission.root)
    problems = check_submission(submission)
    assert len(problems) == len(expected)
    for problem, words in zip(problems, expected, strict=True):
        assert words in problem


def test_sizes_are_compared_with_each_other_without_frames(
    submission: Submission,
) -> None:
    alone = replace(submission, frames=None)
    drop_frame(submission.root)
    assert check_submission(alone) == []
    shrink(submission.root)
    assert 'is 4 x 5, expected 48 x 64' in check_submission(alone)[0]


@pytest.mark.parametrize(
    ('layout', 'inside'), [('davis', ''), ('youtube-vos', 'Annotations/')]
)
def test_archive_holds_the_masks_as_the_server_expects_them(
    submission: Submission, tmp_path: Path, layout: str, inside: str
) -> None:
    packed = replace(submission, layout=LAYOUTS[layout])
    path = tmp_path / 'new' / 'masks.zip'
    for _ in range(2):  # a second one replaces the first
        assert pack_submission(packed, path) == 6
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            f'{inside}{name}/{stem}.png' for name in ('a', 'b') for stem in FRAMES
        ]
        for entry in archive.namelist():
            file = submission.root / entry.removeprefix(inside)
            assert archive.read(entry) == file.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ['masks.zip']


def test_folders_of_objects_are_checked_and_packed(
    submission: Submission, tmp_path: Path
) -> None:
    root = tmp_path / 'objects'
    for name in ('a', 'b'):
        write_objects(root / name, square_maps(3))
    packed = replace(submission, root=root, layout=LAYOUTS['sav'])
    assert check_submission(packed) == []
    assert pack_submission(packed, tmp_path / 'sav.zip') == 12
    with zipfile.ZipFile(tmp_path / 'sav.zip') as archive:
        assert archive.namelist()[3] == 'a/002/00000.png'
    (root / 'a' / '002' / '00001.png').unlink()
    assert check_submission(packed) == ['a/002/00001.png: is missing']
    wrong = replace(submission, layout=LAYOUTS['sav'])
    assert 'expects a folder for each object' in check_submission(wrong)[0]


def test_failure_leaves_no_part_of_an_archive(
    submission: Submission, tmp_path: Path
) -> None:
    path = tmp_path / 'new' / 'masks.zip'
    broken = replace(submission, names=('a', 'nowhere'))
    with pytest.raises(ClipDataError, match='nowhere'):
        pack_submission(broken, path)
    assert not path.parent.exists()


def test_progress_is_reported(submission: Submission) -> None:
    calls: list[tuple[int, int]] = []
    check_submission(submission, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]


def test_mosev2_expects_masks_named_by_number(submission: Submission) -> None:
    rule = replace(submission, layout=LAYOUTS['mosev2'], frames=None)
    assert not check_submission(rule)
    for path in (submission.root / 'a').iterdir():
        path.rename(path.with_name(f'mask_{path.name}'))
    problems = check_submission(rule)
    assert problems[0].startswith('a/mask_00000.png: the server expects a number')
    assert len(problems) == len(FRAMES)
