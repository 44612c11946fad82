"""Masks are written as ids or by object, whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from projects.sam2.apis.vos import SETTINGS_FILE, MaskFolder, claim_folder
from projects.sam2.structures import FrameMasks
from vos_folders import files_below, read_png

SIZE = (6, 8)


def _frame(**columns: tuple[int, int]) -> FrameMasks:
    """Objects ``o<id>`` that fill columns from one to another."""
    masks = np.zeros((len(columns), *SIZE), bool)
    for mask, (first, last) in zip(masks, columns.values(), strict=True):
        mask[:, first:last] = True
    return FrameMasks(object_ids=tuple(int(name[1:]) for name in columns), masks=masks)


FRAMES = [('00000', _frame(o2=(0, 4))), ('00001', _frame(o2=(0, 4), o1=(3, 6)))]


def test_values_are_ids_and_the_lowest_counts(tmp_path: Path) -> None:
    folder = MaskFolder(root=tmp_path, per_object=False)
    assert folder.write('a/b', FRAMES, {}) == 2
    assert list(files_below(tmp_path)) == ['a/b/00000.png', 'a/b/00001.png']
    assert read_png(tmp_path / 'a/b/00000.png')[0].tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    assert read_png(tmp_path / 'a/b/00001.png')[0].tolist() == [2, 2, 2, 1, 1, 1, 0, 0]


def test_masks_of_an_object_overlap_and_begin_with_the_video(tmp_path: Path) -> None:
    folder = MaskFolder(root=tmp_path, per_object=True)
    folder.write('a', FRAMES, {})
    names = [f'a/{n}/0000{i}.png' for n in ('001', '002') for i in (0, 1)]
    assert list(files_below(tmp_path)) == names
    folder.write('b', FRAMES, {2: '1', 1: '0'})
    assert read_png(tmp_path / 'b/1/00001.png')[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert read_png(tmp_path / 'b/0/00001.png')[0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert not read_png(tmp_path / 'b/0/00000.png').any()


def test_half_written_video_is_not_there(tmp_path: Path) -> None:
    folder = MaskFolder(root=tmp_path, per_object=False)

    def broken() -> Iterator[tuple[str, FrameMasks]]:
        yield FRAMES[0]
        assert any(tmp_path.rglob('00000.png'))
        assert not folder.has('a')
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  any
        folder.write('a', broken(), {})
    assert not folder.has('a')
    # What a process that was killed leaves behind is no video, and is overwritten.
    (tmp_path / '.a.partial').mkdir()
    (tmp_path / '.a.partial' / '00009.png').touch()
    assert not folder.has('a')
    folder.write('a', FRAMES, {})
    assert folder.has('a')
    assert list(files_below(tmp_path)) == ['a/00000.png', 'a/00001.png']


@pytest.mark.parametrize('object_id', [0, 255])
def test_id_that_is_no_label_is_refused(object_id: int, tmp_path: Path) -> None:
    frames = [('0', _frame(**{f'o{object_id}': (0, 2)}))]
    with pytest.raises(ValueError, match=f'Object {object_id} does not fit'):
        MaskFolder(root=tmp_path, per_object=False).write('a', frames, {})
    with pytest.raises(ValueError, match=f'Object {object_id} does not fit'):
        MaskFolder(root=tmp_path, per_object=False).check_ids([1, object_id])
    MaskFolder(root=tmp_path, per_object=True).check_ids([1, object_id])
    MaskFolder(root=tmp_path, per_object=True).write('a', frames, {})


def test_folder_belongs_to_its_settings(tmp_path: Path) -> None:
    settings = {'given': 'all', 'masks': tmp_path}
    claim_folder(tmp_path / 'out', settings, write=False)
    assert not (tmp_path / 'out').exists()
    for _ in range(2):
        claim_folder(tmp_path / 'out', settings, write=True)
    assert (tmp_path / 'out' / SETTINGS_FILE).is_file()
    # No mask is there yet.
    settings['given'] = 'first-seen'
    claim_folder(tmp_path / 'out', settings, write=True)
    (tmp_path / 'out' / 'a').mkdir()
    claim_folder(tmp_path / 'out', settings, write=True)
    message = 'other settings .given first-seen, not first-frame.; remove it or choose'
    with pytest.raises(FileExistsError, match=message):
        claim_folder(tmp_path / 'out', settings | {'given': 'first-frame'}, write=True)
