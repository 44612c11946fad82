"""Files of masks and pictures, read back with other readers."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from inference_cases import frame_of, nested_masks
from projects.sam2.apis.inference_io import (
    FORMATS,
    InferenceResult,
    ResultFiles,
    check_ids,
)

PICTURE = np.full((48, 80, 3), 99, dtype=np.uint8)


def files(folder: Path, rate: float | None, *formats: str) -> ResultFiles:
    return ResultFiles(
        folder=folder, name='a.b', formats=formats, frames_per_second=rate
    )


def test_image_has_a_file_of_each_kind(tmp_path: Path) -> None:
    frame = frame_of(nested_masks(), (3, 9))
    result = InferenceResult(name='a.b', size=(48, 80), frames=(frame.packed(),))
    with files(tmp_path, None, 'png', 'json', 'npz') as written:
        written.add_masks(frame)
        written.add_picture(PICTURE)
        written.finish(result)
    assert sorted(written.written) == sorted(p for p in tmp_path.rglob('*.*'))
    assert {p.relative_to(tmp_path).as_posix() for p in written.written} == {
        'vis/a.b.png',
        'pred/a.b.png',
        'pred/a.b.json',
        'pred/a.b.npz',
    }
    labels = Image.open(tmp_path / 'pred' / 'a.b.png')
    assert labels.mode == 'P'
    assert np.array_equal(np.asarray(labels), frame.label_map())
    with np.load(tmp_path / 'pred' / 'a.b.npz') as arrays:
        assert np.array_equal(arrays['masks'], frame.masks)
        assert arrays['object_ids'].tolist() == [3, 9]
    read = json.loads((tmp_path / 'pred' / 'a.b.json').read_text())
    assert read == json.loads(json.dumps(result.as_json()))


def test_video_has_labels_by_frame_and_one_film(tmp_path: Path) -> None:
    with files(tmp_path, 25.0, 'png') as written:
        for index in (4, 5):
            written.add_masks(frame_of(nested_masks(), (1, 2), index=index))
            written.add_picture(PICTURE)
    labels = sorted((tmp_path / 'pred' / 'a.b').iterdir())
    assert [path.name for path in labels] == ['00004.png', '00005.png']
    film = cv2.VideoCapture(str(tmp_path / 'vis' / 'a.b.mp4'))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(25)


def test_failure_leaves_no_half_of_a_film(tmp_path: Path) -> None:
    def fail() -> None:
        with files(tmp_path, 25.0, 'png') as written:
            written.add_picture(PICTURE)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.rglob('*.mp4'))


def test_id_beyond_a_palette_is_written_in_16_bits(tmp_path: Path) -> None:
    frame = frame_of(nested_masks(), (3, 300))
    with files(tmp_path, None, 'png') as written:
        written.add_masks(frame)
    (path,) = written.written
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    assert stored.dtype == np.uint16
    assert np.array_equal(stored, frame.label_map())


def test_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unknown format 'tiff'"):
        files(tmp_path, None, 'tiff')


def test_ids_that_a_format_cannot_hold_are_refused() -> None:
    check_ids([1, 65535], FORMATS)
    check_ids([2**40, 7], ['npz', 'json'])
    check_ids([2**80], ['json'])
    check_ids([], FORMATS)
    with pytest.raises(
        ValueError, match=r'Object 65536 does not fit into png, .*json or'
    ):
        check_ids([65536, 3], ['json', 'png'])
    with pytest.raises(ValueError, match=r'into npz, .*; write json, or give smaller'):
        check_ids([2**63], ['npz'])
