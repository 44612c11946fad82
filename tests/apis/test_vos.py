"""Videos of a dataset are segmented from given masks, and written once."""

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memory_videos import MemoryVideo
from projects.sam2.apis import SAM2VideoPredictor
from projects.sam2.apis import vos as vos_run
from projects.sam2.apis.vos import (
    SETTINGS_FILE,
    GivenMasks,
    MaskFolder,
    VOSPlan,
    VOSWorker,
    claim_folder,
    run_inference,
    segment_video,
)
from projects.sam2.checkpoints import CheckpointMismatchError
from projects.sam2.datasets.processing.worker_pool import TaskResult
from projects.sam2.structures import FrameMasks
from toy_videos import refuse_archives, toy_model
from vos_folders import VIDEOS, files_below, read_png, write_vos_data, write_vos_model

# --------------------------------------------------------------------- folders of masks

SIZE = (6, 8)


def _frame(**columns: tuple[int, int]) -> FrameMasks:
    """Objects ``o<id>`` that fill columns from one to another."""
    masks = np.zeros((len(columns), *SIZE), bool)
    for mask, (first, last) in zip(masks, columns.values(), strict=True):
        mask[:, first:last] = True
    return FrameMasks(object_ids=tuple(int(name[1:]) for name in columns), masks=masks)


FRAMES = [('00000', _frame(o2=(0, 4))), ('00001', _frame(o2=(0, 4), o1=(3, 6)))]


def test_label_is_the_lowest_of_overlapping_ids(tmp_path: Path) -> None:
    folder = MaskFolder(root=tmp_path, per_object=False)
    assert folder.write('a/b', FRAMES, {}) == 2
    assert list(files_below(tmp_path)) == ['a/b/00000.png', 'a/b/00001.png']
    assert read_png(tmp_path / 'a/b/00000.png')[0].tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    assert read_png(tmp_path / 'a/b/00001.png')[0].tolist() == [2, 2, 2, 1, 1, 1, 0, 0]


def test_object_folders_overlap_and_have_every_frame(tmp_path: Path) -> None:
    folder = MaskFolder(root=tmp_path, per_object=True)
    folder.write('a', FRAMES, {})
    names = [f'a/{n}/0000{i}.png' for n in ('001', '002') for i in (0, 1)]
    assert list(files_below(tmp_path)) == names
    folder.write('b', FRAMES, {2: '1', 1: '0'})
    assert read_png(tmp_path / 'b/1/00001.png')[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert read_png(tmp_path / 'b/0/00001.png')[0].tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert not read_png(tmp_path / 'b/0/00000.png').any()


def test_video_appears_when_it_is_complete(tmp_path: Path) -> None:
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
def test_id_that_is_no_label_is_an_error(object_id: int, tmp_path: Path) -> None:
    frames = [('0', _frame(**{f'o{object_id}': (0, 2)}))]
    with pytest.raises(ValueError, match=f'Object {object_id} does not fit'):
        MaskFolder(root=tmp_path, per_object=False).write('a', frames, {})
    with pytest.raises(ValueError, match=f'Object {object_id} does not fit'):
        MaskFolder(root=tmp_path, per_object=False).check_ids([1, object_id])
    MaskFolder(root=tmp_path, per_object=True).check_ids([1, object_id])
    MaskFolder(root=tmp_path, per_object=True).write('a', frames, {})


def test_folder_with_masks_of_other_settings_is_an_error(tmp_path: Path) -> None:
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


# ---------------------------------------------------------------------------- one video

LATE = MemoryVideo(first_frames=(1, 3), length=6)


@pytest.fixture(scope='module')
def predictor() -> SAM2VideoPredictor:
    """The small predictor; it judges all objects present."""
    model = toy_model()
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].bias += 10
    return SAM2VideoPredictor(model, memory_dtype=torch.float32)


def _segment(
    predictor: SAM2VideoPredictor,
    video: MemoryVideo,
    given: GivenMasks = GivenMasks.FIRST_SEEN,
    threshold: float = 0.0,
) -> list[FrameMasks]:
    beats: list[int] = []
    masks = segment_video(
        predictor,
        video,
        given=given,
        score_threshold=threshold,
        heartbeat=lambda: beats.append(1),
    )
    frames = list(masks)
    assert len(beats) >= sum(bool(frame.object_ids) for frame in frames)
    return frames


def _by_hand(
    predictor: SAM2VideoPredictor, video: MemoryVideo, number: int, frames: list[int]
) -> dict[int, NDArray[np.bool_]]:
    """One object alone through the public calls, prompted on some frames."""
    state = predictor.init_state([video.read_frame(i) for i in range(video.length)])
    for frame in frames:
        mask = video.masks(frame)[number - 1]
        predictor.add_new_mask(state, frame, number, mask)
    results = predictor.propagate_in_video(state, frames[0])
    return {r.frame_index: (r.mask_logits[0, 0] > 0).cpu().numpy() for r in results}


def _same(
    ours: Iterable[FrameMasks], alone: dict[int, NDArray[np.bool_]], number: int
) -> bool:
    for index, frame in enumerate(ours):
        if index in alone:
            mine = frame.masks[frame.object_ids.index(number)]
            if (mine != alone[index]).mean() > 1e-3:
                return False
    return True


def test_object_is_tracked_from_its_first_mask_as_if_alone(
    predictor: SAM2VideoPredictor,
) -> None:
    frames = _segment(predictor, LATE)
    assert [frame.object_ids for frame in frames] == [
        *[(), (1,), (1,)],
        *[(1, 2)] * 3,
    ]
    assert frames[0].masks.shape == (0, *LATE.size)
    for number, first in ((1, 1), (2, 3)):
        alone = _by_hand(predictor, LATE, number, [first])
        assert list(alone) == list(range(first, 6))
        assert _same(frames, alone, number)


def test_first_frame_leaves_out_later_objects(
    predictor: SAM2VideoPredictor,
) -> None:
    frames = _segment(predictor, LATE, GivenMasks.FIRST_FRAME)
    assert [frame.object_ids for frame in frames] == [(), *[(1,)] * 5]
    assert _same(frames, _by_hand(predictor, LATE, 1, [1]), 1)


def test_all_masks_may_be_prompts(predictor: SAM2VideoPredictor) -> None:
    video = MemoryVideo(first_frames=(1, 3), length=6, annotated=(0, 1, 3, 5))
    frames = _segment(predictor, video, GivenMasks.ALL)
    assert _same(frames, _by_hand(predictor, video, 1, [1, 3, 5]), 1)
    assert _same(frames, _by_hand(predictor, video, 2, [3, 5]), 2)
    once = _segment(predictor, video)
    assert any((a.masks != b.masks).any() for a, b in zip(frames, once, strict=True))


def test_higher_threshold_gives_smaller_masks(predictor: SAM2VideoPredictor) -> None:
    areas = [
        sum(frame.masks.sum() for frame in _segment(predictor, LATE, threshold=limit))
        for limit in (-0.5, 0.0, 0.5)
    ]
    assert areas[0] > areas[1] > areas[2]


def test_old_memories_are_not_offloaded(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_archives(monkeypatch)
    assert len(_segment(predictor, MemoryVideo(length=20))) == 20


def test_video_without_an_object_is_an_error(predictor: SAM2VideoPredictor) -> None:
    empty = MemoryVideo(first_frames=(9,), length=3)
    with pytest.raises(ValueError, match='squares: no mask shows an object'):
        _segment(predictor, empty)


def test_frame_of_another_size_is_named(
    predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = MemoryVideo(length=3)
    masks = segment_video(predictor, video)
    next(masks)
    monkeypatch.setattr(video, 'size', (40, 80))
    with pytest.raises(ValueError, match=r'squares, frame \d, is \(40, 80\)'):
        list(masks)


# --------------------------------------------------------------------------- all videos

LENGTHS = {'late': 3, 'long': 4, 'short': 2}


@pytest.fixture(scope='module')
def plan(tmp_path_factory: pytest.TempPathFactory) -> VOSPlan:
    """Palette masks in and out."""
    root = tmp_path_factory.mktemp('vos')
    write_vos_data(root)
    config, checkpoint = write_vos_model(root)
    return VOSPlan(
        config=config,
        checkpoint=checkpoint,
        frames=root / 'frames',
        masks=root / 'masks',
        out=MaskFolder(root=root / 'out', per_object=False),
        build={'apply_postprocessing': False, 'device': 'cpu'},
    )


def _run(
    plan: VOSPlan, num_processes: int = 1, launcher: str = 'none'
) -> list[TaskResult[str, int]]:
    runs = run_inference(
        plan,
        plan.lengths(),
        num_processes=num_processes,
        launcher=launcher,
        heartbeat=lambda: None,
    )
    return list(runs)


def _to(plan: VOSPlan, root: Path, *, per_object: bool = False) -> VOSPlan:
    return replace(plan, out=MaskFolder(root=root, per_object=per_object))


@pytest.fixture(scope='module')
def results(plan: VOSPlan) -> list[TaskResult[str, int]]:
    """Results of all videos in one process."""
    return _run(plan)


@pytest.fixture(scope='module')
def whole(plan: VOSPlan, results: list[TaskResult[str, int]]) -> dict[str, bytes]:
    """All masks, written by one process."""
    assert results
    return files_below(plan.out.root)


def test_every_frame_gets_its_masks_the_longest_video_first(
    plan: VOSPlan, results: list[TaskResult[str, int]], whole: dict[str, bytes]
) -> None:
    assert plan.lengths() == LENGTHS
    done = [(result.task, result.result) for result in results]
    assert done == [('long', 4), ('late', 3), ('short', 2)]
    names = {f'{n}/{i:05d}.png' for n, count in LENGTHS.items() for i in range(count)}
    assert set(whole) == names
    for name in VIDEOS:
        labels = read_png(plan.out.root / name / '00000.png')
        given = read_png(plan.masks / name / '00000.png')
        assert labels.shape == given.shape
        assert (labels == given).mean() > 0.9
    assert 2 in np.unique(read_png(plan.out.root / 'late' / '00002.png'))
    assert 2 not in np.unique(read_png(plan.out.root / 'late' / '00001.png'))


def test_finished_videos_are_skipped(
    plan: VOSPlan, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    (tmp_path / 'late').mkdir()
    (tmp_path / '.long.partial').mkdir()
    again = _to(plan, tmp_path)
    assert [result.result for result in _run(again)] == [4, 0, 2]
    assert not list((tmp_path / 'late').iterdir())
    rest = {path: b for path, b in whole.items() if not path.startswith('late')}
    assert files_below(tmp_path) == rest
    # Nothing is left to do, so not even the model is built.
    unbuilt = replace(again, checkpoint='nowhere.pt')
    assert [result.result for result in _run(unbuilt)] == [0, 0, 0]


def test_processes_share_the_videos(
    plan: VOSPlan, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    results = _run(_to(plan, tmp_path), num_processes=2)
    assert {result.task: result.result for result in results} == LENGTHS
    assert files_below(tmp_path) == whole


def test_ranks_share_the_videos(
    plan: VOSPlan,
    tmp_path: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('LOCAL_RANK', '0')
    shares = []
    for rank in ('0', '1'):
        monkeypatch.setenv('RANK', rank)
        results = _run(_to(plan, tmp_path), launcher='pytorch')
        shares.append([result.task for result in results])
    assert shares == [['long'], ['late', 'short']]
    assert files_below(tmp_path) == whole


def test_folders_of_objects_keep_their_names(plan: VOSPlan, tmp_path: Path) -> None:
    write_vos_data(tmp_path, per_object=True)
    folders = replace(
        _to(plan, tmp_path / 'out', per_object=True),
        frames=tmp_path / 'frames',
        masks=tmp_path / 'masks',
        masks_per_object=True,
        given=GivenMasks.FIRST_FRAME,
    )
    assert [result.error for result in _run(folders)] == [None] * 3
    objects = sorted(path.name for path in (tmp_path / 'out' / 'long').iterdir())
    assert objects == ['000', '001']
    assert [p.name for p in (tmp_path / 'out' / 'late').iterdir()] == ['000']
    for number in objects:
        file = f'long/{number}/00000.png'
        mask, given = (read_png(tmp_path / n / file) for n in ('out', 'masks'))
        assert ((mask > 0) == (given > 0)).mean() > 0.9


def test_object_beyond_a_palette_is_reported_before_tracking(
    plan: VOSPlan, tmp_path: Path
) -> None:
    write_vos_data(tmp_path, per_object=True)
    (tmp_path / 'masks' / 'short' / '000').rename(tmp_path / 'masks' / 'short' / '400')
    folders = replace(
        _to(plan, tmp_path / 'out'),
        frames=tmp_path / 'frames',
        masks=tmp_path / 'masks',
        masks_per_object=True,
    )
    errors = {result.task: str(result.error) for result in _run(folders)}
    assert 'Object 401 does not fit into a palette PNG' in errors['short']
    assert [name for name in errors if errors[name] == 'None'] == ['long', 'late']


def test_bad_video_is_reported_and_the_others_segmented(
    plan: VOSPlan, tmp_path: Path
) -> None:
    write_vos_data(tmp_path)
    (tmp_path / 'masks' / 'long' / '00000.png').write_bytes(b'no picture')
    for path in (tmp_path / 'masks' / 'short').iterdir():
        path.unlink()
    bad = replace(
        _to(plan, tmp_path / 'out'),
        frames=tmp_path / 'frames',
        masks=tmp_path / 'masks',
    )
    by_name = {result.task: result for result in _run(bad)}
    assert by_name['late'].result == 3
    assert '00000.png' in str(by_name['long'].error)
    assert 'holds no .png' in str(by_name['short'].error)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['late']


def test_wrong_checkpoint_stops_the_run(plan: VOSPlan, tmp_path: Path) -> None:
    torch.save({'net': {}}, tmp_path / 'x.pt')
    wrong = replace(_to(plan, tmp_path), checkpoint=str(tmp_path / 'x.pt'))
    with pytest.raises(CheckpointMismatchError, match='holds no weights'):
        _run(wrong)
    with pytest.raises(ValueError, match='num_processes is 0'):
        _run(wrong, num_processes=0)


def test_each_process_takes_the_next_gpu(
    plan: VOSPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[str] = []
    monkeypatch.setattr(
        vos_run,
        'build_sam2_video_predictor',
        lambda *_, device, **__: devices.append(device),
    )
    monkeypatch.setattr(vos_run, 'default_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    num_started = multiprocessing.Value('i', 0)
    free = replace(plan, build={})
    for _ in range(3):
        VOSWorker(plan=free, num_started=num_started, first_device=2).prepare()
    VOSWorker(plan=replace(plan, build={'device': 'cuda:1'})).prepare()
    assert devices == ['cuda:2', 'cuda:3', 'cuda:0', 'cuda:1']
