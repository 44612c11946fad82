"""A data set is segmented once, whoever does which part of it."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from projects.sam2.apis import vos as vos_run
from projects.sam2.apis.vos import (
    GivenMasks,
    MaskFolder,
    VOSPlan,
    VOSWorker,
    run_inference,
)
from projects.sam2.checkpoints import CheckpointMismatchError
from projects.sam2.datasets.processing.worker_pool import TaskResult
from vos_folders import VIDEOS, files_below, read_png, write_vos_data, write_vos_model

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
def outcomes(plan: VOSPlan) -> list[TaskResult[str, int]]:
    """What became of the videos in one process."""
    return _run(plan)


@pytest.fixture(scope='module')
def whole(plan: VOSPlan, outcomes: list[TaskResult[str, int]]) -> dict[str, bytes]:
    """All masks, written by one process."""
    assert outcomes
    return files_below(plan.out.root)


def test_every_frame_gets_its_masks_the_longest_video_first(
    plan: VOSPlan, outcomes: list[TaskResult[str, int]], whole: dict[str, bytes]
) -> None:
    assert plan.lengths() == LENGTHS
    done = [(one.task, one.result) for one in outcomes]
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


def test_what_is_done_is_passed_over_and_the_rest_is_made(
    plan: VOSPlan, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    (tmp_path / 'late').mkdir()
    (tmp_path / '.long.partial').mkdir()
    again = _to(plan, tmp_path)
    assert [one.result for one in _run(again)] == [4, 0, 2]
    assert not list((tmp_path / 'late').iterdir())
    rest = {path: b for path, b in whole.items() if not path.startswith('late')}
    assert files_below(tmp_path) == rest
    # Nothing is left to do, so not even the model is built.
    unbuilt = replace(again, checkpoint='nowhere.pt')
    assert [one.result for one in _run(unbuilt)] == [0, 0, 0]


def test_processes_share_the_videos(
    plan: VOSPlan, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    outcomes = _run(_to(plan, tmp_path), num_processes=2)
    assert {one.task: one.result for one in outcomes} == LENGTHS
    assert files_below(tmp_path) == whole


def test_ranks_deal_the_videos(
    plan: VOSPlan,
    tmp_path: Path,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('LOCAL_RANK', '0')
    hands = []
    for rank in ('0', '1'):
        monkeypatch.setenv('RANK', rank)
        outcomes = _run(_to(plan, tmp_path), launcher='pytorch')
        hands.append([one.task for one in outcomes])
    assert hands == [['long'], ['late', 'short']]
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
    assert [one.error for one in _run(folders)] == [None] * 3
    objects = sorted(path.name for path in (tmp_path / 'out' / 'long').iterdir())
    assert objects == ['000', '001']
    assert [p.name for p in (tmp_path / 'out' / 'late').iterdir()] == ['000']
    for number in objects:
        file = f'long/{number}/00000.png'
        mask, given = (read_png(tmp_path / n / file) for n in ('out', 'masks'))
        assert ((mask > 0) == (given > 0)).mean() > 0.9


def test_object_that_no_palette_holds_is_told_before_it_is_tracked(
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
    found = {one.task: str(one.error) for one in _run(folders)}
    assert 'Object 401 does not fit into a palette PNG' in found['short']
    assert [name for name in found if found[name] == 'None'] == ['long', 'late']


def test_bad_video_is_told_and_the_others_are_segmented(
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
    found = {one.task: one for one in _run(bad)}
    assert found['late'].result == 3
    assert '00000.png' in str(found['long'].error)
    assert 'holds no .png' in str(found['short'].error)
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
    started = multiprocessing.Value('i', 0)
    free = replace(plan, build={})
    for _ in range(3):
        VOSWorker(plan=free, started=started, first_device=2).prepare()
    VOSWorker(plan=replace(plan, build={'device': 'cuda:1'})).prepare()
    assert devices == ['cuda:2', 'cuda:3', 'cuda:0', 'cuda:1']
