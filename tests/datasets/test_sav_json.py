"""Places of the frames in SA-V's annotation files."""

import json
import math
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.sam2.datasets.io.errors import ClipDataError, ReadLimits
from projects.sam2.datasets.sources import sav as sav_json
from projects.sam2.datasets.sources.sav import element_spans, index_sav
from projects.sam2.ops import encode_masks

JSON_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(alphabet='a[]{}",\\:ü\n', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(alphabet='mas"\\k:', max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def noisy_codes(num_frames: int, num_objects: int) -> list[list[dict[str, Any]]]:
    """Masks with ragged edges, as SA-V has them."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(num_frames):
        masks = np.zeros((num_objects, 240, 320), bool)
        for mask in masks:
            for column in range(40, 280):
                top, height = rng.integers(40, 60), rng.integers(80, 100)
                mask[top : top + height, column] = True
        frames.append([dict(code) for code in encode_masks(masks)])
    return frames


@settings(max_examples=200, deadline=None)
@given(st.lists(JSON_VALUES, min_size=1, max_size=5), JSON_VALUES, st.booleans())
def test_elements_are_found_whatever_stands_around_them(
    frames: list[Any],
    other: Any,
    spaced: bool,
) -> None:
    separators = (' , ', ' : ') if spaced else (',', ':')
    content = {'a': other, 'b': {'masks': [1]}, 'masks': frames, 'c': [other, 'masks']}
    for key, value in (('masks', content), (None, frames)):
        text = json.dumps(value, separators=separators).encode()
        found = [orjson.loads(text[a:b]) for a, b in element_spans(text, key)]
        assert found == frames


def test_key_that_is_written_with_escapes_is_not_found() -> None:
    assert len(element_spans(b'{"m\\u0061sks": [1, 2]}', 'masks')) == 0


def test_forms_of_the_file_and_their_distances_are_told_apart(tmp_path: Path) -> None:
    frames = [['a', 'b'], ['c', 'd']]
    cases: list[tuple[Any, int]] = [
        ({'masklet': frames}, 4),
        ({'masks': frames, 'fps': [6.0]}, 4),
        ({'masks': frames, 'fps': 12}, 2),
        ({'masks': frames, 'fps': 0.1}, 240),
        (frames, 1),
    ]
    for number, (content, ann_every) in enumerate(cases):
        index = index_sav(write_json(tmp_path / f'{number}.json', content))
        assert (index.ann_every, index.num_objects) == (ann_every, 2)
        assert [index.read(i) for i in (1, 0)] == [['c', 'd'], ['a', 'b']]


def test_frame_that_lacks_a_mask_is_incomplete(tmp_path: Path) -> None:
    content = {'masklet': [['a', 'b'], None, ['c', None], ['d', 'e']]}
    index = index_sav(write_json(tmp_path / 'a.json', content))
    assert index.complete == (0, 3)
    assert index.incomplete == (1, 2)
    assert index.read(3) == ['d', 'e']


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_json(tmp_path / 'a.json', [['a']])
    assert index_sav(path).read(0) == ['a']
    index = index_sav(write_json(path, [['bcd'], ['e']]))
    assert index.read(1) == ['e']
    path.write_text('[["x"')
    with pytest.raises(ClipDataError, match='changed while it was read'):
        index.read(1)


def write_videos(root: Path, num_videos: int) -> list[Path]:
    """Annotations as long as SA-V's are on average, 14 seconds."""
    content = [[{'size': [1, 1], 'counts': '0'}]] * 85
    return [
        write_json(root / f'sav_{number:06d}_manual.json', {'masklet': content})
        for number in range(num_videos)
    ]


def test_fifty_thousand_videos_of_sav_are_known_in_200_megabytes(
    tmp_path: Path,
) -> None:
    paths = write_videos(tmp_path, 300)
    index_sav(paths[0])
    tracemalloc.start()
    indices = [index_sav(path) for path in paths]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 50_000 * kept / len(paths) < 200 * 10**6
    counted = indices[0].num_bytes
    assert 50_000 * counted < sav_json.MAX_INDEX_BYTES < 200 * 10**6
    assert kept / len(paths) < 1.2 * counted


def test_oldest_files_are_forgotten_beyond_a_number_of_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = write_videos(tmp_path, 3)
    monkeypatch.setattr(sav_json, '_indices', sav_json._IndexCache())
    room = 2 * index_sav(first).num_bytes
    monkeypatch.setattr(sav_json, 'MAX_INDEX_BYTES', room)
    before = {path: index_sav(path) for path in (second, first)}
    assert all(index_sav(path) is before[path] for path in before)
    index_sav(third)
    assert index_sav(second) is before[second]
    assert index_sav(first) is not before[first]


def test_places_in_a_large_file_need_not_fit_32_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert index_sav(write_videos(tmp_path, 1)[0]).marks.dtype == np.uint32
    monkeypatch.setattr(sav_json, 'SMALL_FILE', 9)
    index = index_sav(write_json(tmp_path / 'a.json', [['abc'], ['d']]))
    assert index.marks.dtype == np.uint64
    assert index.read(1) == ['d']


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (7, 'the content is 7'),
        ({'mask': []}, 'no list masklet or masks'),
        ({'masklet': 7}, 'masklet is 7'),
        ({'masklet': []}, 'frames of'),
        ({'masklet': [['a'], ['a', 'b']]}, r'frames of \[1, 2\] objects'),
        ({'masklet': [['a'], 7]}, 'has frame 7'),
        ({'masklet': [['a']], 'fps': 7}, 'fps 7.0.*set ann_every'),
        ({'masklet': [['a']], 'fps': 5e-324}, 'fps 5e-324.*set ann_every'),
        ({'masklet': [['a']], 'fps': math.nan}, 'fps nan'),
        ({'masklet': [['a']], 'fps': math.inf}, 'fps inf'),
        ({'masklet': [['a']], 'fps': 10**400}, 'fps is 1000'),
        ({'masklet': [['a']], 'fps': 'x'}, "fps is 'x'"),
        ({'masklet': [['a']], 'fps': []}, 'fps is a list'),
        ({'masklet': [['a']], 'fps': -6}, 'fps'),
    ],
)
def test_file_of_another_form_is_named(
    tmp_path: Path,
    content: Any,
    reason: str,
) -> None:
    path = write_json(tmp_path / 'a.json', content)
    with pytest.raises(ClipDataError, match=rf'a\.json: .*{reason}'):
        index_sav(path)


def test_escaped_name_and_large_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    path.write_text('{"m\\u0061sks": [["a"], ["b"]]}')
    with pytest.raises(ClipDataError, match='without escapes'):
        index_sav(path)
    with pytest.raises(ClipDataError, match='max_file_size=9'):
        index_sav(path, ReadLimits(max_file_size=9))
    path.write_text('7')
    with pytest.raises(ClipDataError, match='the content is 7, expected dict'):
        index_sav(path)


def test_second_visit_is_ten_times_faster_than_parsing_everything(
    tmp_path: Path,
) -> None:
    path = write_json(tmp_path / 'a.json', {'masklet': noisy_codes(120, 8)})
    chosen = range(8, 72, 8)
    index_sav(path)

    def visit() -> list[Any]:
        index = index_sav(path)
        return [index.read(i) for i in chosen]

    def parse() -> list[Any]:
        frames = json.loads(path.read_bytes())['masklet']
        return [frames[i] for i in chosen]

    def seconds(function: Any) -> float:
        began = time.process_time()
        for _ in range(5):
            function()
        return time.process_time() - began

    assert visit() == parse()
    slow, quick = (min(seconds(f) for _ in range(3)) for f in (parse, visit))
    assert slow >= 10 * quick
