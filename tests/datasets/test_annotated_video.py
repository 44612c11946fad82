"""Videos on disk: only the requested masks are decoded, with the same result."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.datasets import (
    AnnotatedVideo,
    ClipAddHiddenObjects,
    ClipDataError,
    ClipDataset,
    ClipLoadFrames,
    ClipLoadMasklets,
    ClipSampleFrames,
    ClipSampleWhole,
    ClipState,
)
from projects.sam2.datasets.annotated_video import (
    MaskReader,
    list_objects,
    pick_objects,
    read_objects,
    visible_objects,
    void_note,
)
from projects.sam2.datasets.io.frames import ImageFrames
from projects.sam2.datasets.sources import segmentations
from projects.sam2.datasets.wrappers import StridedVideoSource
from projects.sam2.structures import FrameMasks, ObjectSource, VideoSource
from reader_fuzz import SOURCES


class CountingMasks(MaskReader):
    """Knows one annotated frame and counts its readings."""

    num_read = 0

    def annotated_frames(self) -> tuple[int, ...]:
        """The second frame."""
        return (1,)

    def object_ids(self) -> tuple[int, ...]:
        """One object."""
        return (4,)

    def read(
        self,
        frame_index: int,
        size: tuple[int, int],
        object_ids: tuple[int, ...] | None = None,
    ) -> FrameMasks:
        """Full masks."""
        self.num_read += frame_index
        ids = object_ids or self.object_ids()
        return FrameMasks(object_ids=ids, masks=np.ones((len(ids), *size), bool))


@pytest.fixture
def video(root: Path) -> AnnotatedVideo:
    folder = root / 'JPEGImages' / 'ant'
    frames = ImageFrames(folder=folder, files=('00000.jpg', '00001.jpg'))
    return AnnotatedVideo(name='ant', frames=frames, masks=CountingMasks())


def test_only_requested_masks_are_read(video: AnnotatedVideo) -> None:
    assert isinstance(video, VideoSource)
    assert (video.num_frames, video.frame_name(1)) == (2, '00001')
    assert video.read_masks(0) is None
    assert video.read_objects(0, (4,)) is None
    assert video.masks.num_read == 0  # type: ignore[attr-defined]  # of the class above
    masks, chosen = video.read_masks(1), video.read_objects(1, (7, 9))
    assert masks is not None
    assert chosen is not None
    assert (masks.object_ids, chosen.object_ids) == ((4,), (7, 9))
    assert masks.masks.shape[1:] == video.read_frame(1).shape[:2]


def test_errors_of_a_mask_reader_are_errors_of_the_clip(
    video: AnnotatedVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bomb(*_: object) -> None:
        raise RecursionError('too deep')

    for name in ('annotated_frames', 'object_ids', 'read'):
        monkeypatch.setattr(CountingMasks, name, bomb)
    calls: list[Callable[[], object]] = [
        video.annotated_frames,
        video.object_ids,
        lambda: video.read_masks(1),
        lambda: video.read_objects(1, (4,)),
    ]
    for call in calls:
        with pytest.raises(ClipDataError, match='ant: cannot be read'):
            call()


SAMPLERS: tuple[Callable[[ClipState], ClipState], ...] = (
    ClipSampleFrames(num_frames=1, max_num_objects=1),
    ClipSampleFrames(num_frames=1, max_num_objects=2),
    ClipSampleWhole(max_num_objects=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFrames:
    """A video of which only all objects of a frame can be decoded."""

    video: AnnotatedVideo

    @property
    def name(self) -> str:
        """Name of the video."""
        return self.video.name

    @property
    def num_frames(self) -> int:
        """Frames of the video."""
        return self.video.num_frames

    def frame_name(self, frame_index: int) -> str:
        """Stem of the frame's file."""
        return self.video.frame_name(frame_index)

    def read_frame(self, frame_index: int) -> NDArray[np.uint8]:
        """Decode a frame."""
        return self.video.read_frame(frame_index)

    def read_masks(self, frame_index: int) -> FrameMasks | None:
        """Decode all masks."""
        return self.video.read_masks(frame_index)

    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames with ground truth."""
        return self.video.annotated_frames()


def open_video(kind: str, root: Path) -> AnnotatedVideo:
    """The first clip of a source of made files."""
    write, settings = SOURCES[kind]
    write(root)
    dataset: ClipDataset = DATASETS.build(
        {'type': kind, 'data_root': str(root), **settings}
    )
    video = dataset.open_video(dataset.list_videos()[0])
    assert isinstance(video, AnnotatedVideo)
    return video


def load(
    source: VideoSource, sampler: Callable[[ClipState], ClipState], seed: int
) -> ClipState:
    """A clip with objects that come later, as training loads it."""
    rng = np.random.default_rng(seed)
    state = ClipState(source=source, sample_index=0, seed=seed, rng=rng)
    hidden = ClipAddHiddenObjects(
        max_num_objects=3, later_probability=0.5, absent_probability=0.5
    )
    return ClipLoadMasklets()(ClipLoadFrames()(hidden(sampler(state))))


def parts(state: ClipState) -> list[Any]:
    """What a clip says about its objects."""
    masklets = [
        None
        if m is None
        else (m.object_ids, m.masks.tolist(), np.array(m.void).tolist())
        for m in state.masklets
    ]
    return [state.frame_indices, state.object_ids, state.hidden_ids, masklets]


@pytest.mark.parametrize('kind', SOURCES)
def test_clips_equal_those_of_a_source_that_decodes_all_objects(
    kind: str, tmp_path: Path
) -> None:
    video = open_video(kind, tmp_path)
    whole = WholeFrames(video=video)
    assert isinstance(video, ObjectSource)
    assert not isinstance(whole, ObjectSource)
    for sampler in SAMPLERS:
        for seed in range(6):
            found, expected = load(video, sampler, seed), load(whole, sampler, seed)
            assert parts(found) == parts(expected)
            assert found.first_ids == expected.first_ids


@pytest.mark.parametrize('kind', SOURCES)
def test_objects_listed_for_a_frame_are_those_that_decoding_shows(
    kind: str, tmp_path: Path
) -> None:
    video = open_video(kind, tmp_path)
    for index in range(video.num_frames):
        seen, _ = list_objects(video, index)
        assert seen == visible_objects(video.read_masks(index))
        for ids in ((), seen[:1], seen[::-1]):
            found = read_objects(video, index, ids)
            expected = read_objects(WholeFrames(video=video), index, ids)
            assert (found is None) == (expected is None)
            if found is not None and expected is not None:
                np.testing.assert_array_equal(found.masks, expected.masks)


def test_objects_that_were_not_sampled_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = open_video('ClipSAVDataset', tmp_path)
    decoded: list[object] = []
    decode = segmentations.decode_segmentation

    def counted(code: object, *rest: Any) -> NDArray[np.bool_]:
        decoded.append(code)
        return decode(code, *rest)

    monkeypatch.setattr(segmentations, 'decode_segmentation', counted)
    for source in (video, StridedVideoSource(source=video, stride=1)):
        decoded.clear()
        state = ClipState(
            source=source, sample_index=0, seed=0, rng=np.random.default_rng(0)
        )
        sampled = ClipSampleFrames(num_frames=3, max_num_objects=1)(state)
        assert (len(sampled.first_ids), len(decoded)) == (4, 1)
        loaded = ClipLoadMasklets()(ClipLoadFrames()(sampled))
        assert len(decoded) == 3
        assert all(m is not None and m.masks.any() for m in loaded.masklets)


def test_view_of_a_source_without_object_access_selects_masks(tmp_path: Path) -> None:
    whole = WholeFrames(video=open_video('ClipSAVDataset', tmp_path))
    view = StridedVideoSource(source=whole, stride=4)
    assert view.seen_objects(1) is None
    found, expected = view.read_objects(1, (1,)), whole.read_masks(4)
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found.masks[0], expected.masks[1])
    assert read_objects(whole, 1, (1,)) is None


def test_selected_objects_keep_the_void() -> None:
    masks = FrameMasks(object_ids=(1,), masks=np.eye(3, dtype=bool)[None])
    masks = replace(masks, void=np.tri(3, dtype=bool))
    picked = pick_objects(masks, (3, 1))
    assert picked.void is masks.void
    np.testing.assert_array_equal(picked.masks, [np.zeros((3, 3)), np.eye(3)])


@pytest.mark.parametrize(
    ('kind', 'remedy'),
    [
        ('ClipPaletteDataset', {'void_label': None}),
        ('ClipLabelImageDataset', {'rule': {'void': ()}}),
    ],
)
def test_error_about_masks_of_0_and_255_names_the_option(
    kind: str, remedy: dict[str, Any], tmp_path: Path
) -> None:
    write, _ = SOURCES[kind]
    write(tmp_path)
    folder = tmp_path / ('Annotations' if 'Palette' in kind else 'labels')
    paths = sorted(folder.rglob('*.png'))
    for path in paths:
        with Image.open(path) as image:
            labels = np.asarray(image)
        Image.fromarray((labels > 0) * np.uint8(255)).save(path)
    video = DATASETS.build({'type': kind, 'data_root': str(tmp_path)}).open_video('ant')
    ((option, value),) = remedy.items()
    setting = 'rule=dict(void=())' if option == 'rule' else f'{option}={value}'
    note = f'all labelled pixels are 255, which is void; set {setting}'
    assert note in void_note(video)
    assert note in void_note(StridedVideoSource(source=video, stride=1))
    for sampler in SAMPLERS:
        with pytest.raises(ClipDataError, match=re.escape(note)):
            load(video, sampler, seed=0)
    changed = DATASETS.build({'type': kind, 'data_root': str(tmp_path), **remedy})
    masks = changed.open_video('ant').read_masks(0)
    assert masks is not None
    assert masks.object_ids == (255,)
    with Image.open(paths[-1]) as image:  # a frame of the clip shows an object
        labels = np.asarray(image).copy()
    labels[0, 0] = 1
    Image.fromarray(labels).save(paths[-1])
    assert not void_note(video)
