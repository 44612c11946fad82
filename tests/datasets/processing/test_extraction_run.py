"""Many videos, in processes of this machine and in jobs of an array."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.sam2.datasets.processing.frame_extraction import (
    ExtractionPlan,
    JobArray,
    VideoOutcome,
    extract_here,
    gather,
    submit_extraction,
)

NAMES = ('ant', 'bad', 'cat')


@pytest.fixture
def plan(tmp_path: Path) -> ExtractionPlan:
    """Three videos, one of them broken."""
    for name in NAMES:
        path = str(tmp_path / f'{name}.mp4')
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*'mp4v'), 24, (64, 48))
        for time in range(5):
            writer.write(np.full((48, 64, 3), 40 * time, np.uint8))
        writer.release()
    (tmp_path / 'bad.mp4').write_bytes(b'no video')
    return ExtractionPlan(videos=tmp_path, out=tmp_path / 'out', every=2)


def array(folder: Path, cluster: str, num_jobs: int = 2) -> JobArray:
    logs = folder / 'logs'
    return JobArray(
        cluster=cluster, num_jobs=num_jobs, minutes=5, partition=None, logs=logs
    )


def check(outcomes: list[VideoOutcome], out: Path) -> None:
    found = {outcome.name: outcome for outcome in outcomes}
    assert set(found) == set(NAMES)
    assert [found[name].num_written for name in NAMES] == [3, 0, 3]
    assert 'bad.mp4: is no mp4 file' in str(found['bad'].problem)
    assert sorted(path.name for path in out.iterdir()) == ['ant', 'cat']
    assert len(list((out / 'cat').iterdir())) == 3


def test_broken_video_does_not_keep_the_others_from_it(plan: ExtractionPlan) -> None:
    check(list(extract_here(plan, NAMES, num_workers=2)), plan.out)
    again = extract_here(plan, NAMES, num_workers=1)
    assert [outcome.num_written for outcome in again] == [0, 0, 0]


@pytest.mark.parametrize(('cluster', 'num_jobs'), [('debug', 2), ('local', 1)])
@pytest.mark.filterwarnings('ignore::ResourceWarning')
@pytest.mark.timeout(600)  # a job is a process of its own, slow to start
def test_jobs_of_an_array_do_the_same(
    plan: ExtractionPlan, tmp_path: Path, cluster: str, num_jobs: int
) -> None:
    pytest.importorskip('submitit')
    settings = array(tmp_path, cluster, num_jobs)
    jobs = submit_extraction(plan, NAMES, settings, num_workers=1)
    assert len(jobs) == num_jobs
    outcomes: list[VideoOutcome] = []
    assert gather(jobs, outcomes.append) == {}
    check(outcomes, plan.out)


class FailedJob:
    """A job whose machine went away."""

    job_id = '17_3'

    def exception(self) -> Exception:
        """What happened."""
        return RuntimeError('node lost')


def test_job_that_failed_is_named() -> None:
    outcomes: list[VideoOutcome] = []
    assert gather([FailedJob()], outcomes.append) == {'17_3': 'node lost'}
    assert not outcomes


def test_missing_submitit_is_told_with_its_remedy(
    plan: ExtractionPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'submitit', None)
    with pytest.raises(ModuleNotFoundError, match='pip install submitit'):
        submit_extraction(plan, NAMES, array(tmp_path, 'local'), num_workers=1)


def test_array_of_no_jobs_is_refused(plan: ExtractionPlan, tmp_path: Path) -> None:
    pytest.importorskip('submitit')
    with pytest.raises(ValueError, match='num_jobs is 0'):
        submit_extraction(plan, NAMES, array(tmp_path, 'debug', 0), num_workers=1)
