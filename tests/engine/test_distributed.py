"""Processes find each other without a GPU, whoever launched them."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import distributed

from projects.sam2.engine.distributed import (
    LostProcessError,
    ProcessRank,
    init_distributed,
    lost_process_error,
    process_rank,
    set_rank_variables,
)

SLURM = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '8', 'SLURM_LOCALID': '1'}
MPI = {
    'OMPI_COMM_WORLD_RANK': '3',
    'OMPI_COMM_WORLD_SIZE': '8',
    'OMPI_COMM_WORLD_LOCAL_RANK': '1',
}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in that expands any list to two machines."""
    program = tmp_path / 'scontrol'
    program.write_text('#!/bin/sh\necho "$2-of-$3"\necho other\n')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')
    return program


@pytest.mark.parametrize(('launcher', 'given'), [('slurm', SLURM), ('mpi', MPI)])
def test_torchs_variables_are_set_from_those_of_the_launcher(
    launcher: str, given: dict[str, str]
) -> None:
    environment = {**given, 'MASTER_ADDR': 'first'}
    set_rank_variables(launcher, environment)
    assert (
        environment.items()
        >= {
            'RANK': '3',
            'WORLD_SIZE': '8',
            'LOCAL_RANK': '1',
            'MASTER_ADDR': 'first',
            'MASTER_PORT': '29500',
        }.items()
    )


@pytest.mark.parametrize(('job', 'port'), [('7', '29507'), ('12345', '29845')])
def test_jobs_on_one_machine_have_different_ports(
    monkeypatch: pytest.MonkeyPatch, job: str, port: str
) -> None:
    environment = {**SLURM, 'MASTER_ADDR': 'first', 'SLURM_JOB_ID': job}
    set_rank_variables('slurm', environment)
    assert environment['MASTER_PORT'] == port
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    threads = {'OMP_NUM_THREADS': '2', 'MKL_NUM_THREADS': '2'}
    monkeypatch.setattr(os, 'environ', {'SLURM_JOB_ID': job, **threads})
    init_distributed(Config({}), 'slurm')
    assert os.environ == {'SLURM_JOB_ID': job, 'MASTER_PORT': port, **threads}


@pytest.mark.usefixtures('scontrol')
def test_scontrol_expands_a_list_of_machines() -> None:
    environment = {**SLURM, 'SLURM_NODELIST': 'node[3-4]'}
    set_rank_variables('slurm', environment)
    assert environment['MASTER_ADDR'] == 'hostnames-of-node[3-4]'


@pytest.mark.parametrize(
    ('nodes', 'expected'), [('alone', 'alone'), ('first,second', 'first')]
)
def test_plain_lists_of_machines_need_no_scontrol(
    monkeypatch: pytest.MonkeyPatch, nodes: str, expected: str
) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    environment = {**SLURM, 'SLURM_NODELIST': nodes}
    set_rank_variables('slurm', environment)
    assert environment['MASTER_ADDR'] == expected


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        ({}, 'SLURM_PROCID; start with slurm'),
        ({**SLURM, 'SLURM_NODELIST': 'node[3-4]'}, r'node\[3-4\].*set MASTER_ADDR'),
        (SLURM, 'set MASTER_ADDR'),
    ],
)
def test_missing_variables_are_named(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(KeyError, match=message):
        set_rank_variables('slurm', dict(environment))


@pytest.mark.parametrize('has_gpu', [False, True])
def test_no_group_is_joined_without_a_launcher_or_with_a_gpu(
    monkeypatch: pytest.MonkeyPatch, *, has_gpu: bool
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: has_gpu)
    cfg = Config({'model_wrapper_cfg': {'broadcast_buffers': False}})
    init_distributed(cfg, 'pytorch' if has_gpu else 'none')
    assert not distributed.is_initialized()
    assert 'device_ids' not in cfg.model_wrapper_cfg


def test_group_of_cpus_is_joined_and_the_wrapper_gets_no_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    joined: list[object] = []
    monkeypatch.setattr(
        distributed,
        'init_process_group',
        lambda backend, timeout: joined.append((backend, timeout.total_seconds())),
    )
    monkeypatch.setenv('MASTER_ADDR', 'first')
    cfg = Config(
        {
            'model_wrapper_cfg': {'broadcast_buffers': False},
            'env_cfg': {'dist_cfg': {'timeout': 77}},
        }
    )
    init_distributed(cfg, 'pytorch')
    assert joined == [('gloo', 77.0)]
    assert cfg.model_wrapper_cfg == {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'device_ids': None,
    }


def test_a_wrapper_on_cpus_searches_for_unused_parameters_as_the_config_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(distributed, 'init_process_group', lambda *_, **__: None)
    monkeypatch.setenv('MASTER_ADDR', 'first')
    # A config of mmdetection has this key in place of model_wrapper_cfg.
    cfg = Config({'find_unused_parameters': True})
    init_distributed(cfg, 'pytorch')
    assert cfg.model_wrapper_cfg == {
        'type': 'MMDistributedDataParallel',
        'broadcast_buffers': False,
        'find_unused_parameters': True,
        'device_ids': None,
    }


@pytest.mark.parametrize(
    ('error', 'is_lost'),
    [
        (RuntimeError('[gloo/x/unbound_buffer.cc:81] Timed out waiting 9ms'), True),
        (RuntimeError('[gloo/x/pair.cc:5] Connection closed by peer [::1]:1'), True),
        (RuntimeError('Connection reset by peer'), True),
        (distributed.DistStoreError('wait timeout after 9ms'), True),
        (RuntimeError('mat1 and mat2 shapes cannot be multiplied'), False),
        (LostProcessError('said already'), False),
    ],
)
def test_lost_process_is_recognised_by_its_error(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError, *, is_lost: bool
) -> None:
    monkeypatch.setenv('RANK', '3')
    monkeypatch.setenv('WORLD_SIZE', '8')
    cfg = Config({'env_cfg': {'dist_cfg': {'timeout': 77}}})
    found = lost_process_error(error, cfg)
    assert (found is not None) is is_lost
    if found is not None:
        assert 'Process 3 of 8' in str(found)
        assert 'timeout is 77 s' in str(found)
        assert str(error) in str(found)


@pytest.mark.parametrize(
    ('launcher', 'given'),
    [
        ('slurm', SLURM),
        ('mpi', MPI),
        ('pytorch', {'RANK': '3', 'WORLD_SIZE': '8', 'LOCAL_RANK': '1'}),
    ],
)
def test_rank_is_read_without_a_process_group(
    launcher: str, given: dict[str, str]
) -> None:
    expected = ProcessRank(rank=3, world_size=8, local_rank=1)
    assert process_rank(launcher, given) == expected
    assert process_rank('none', given) == ProcessRank(rank=0, world_size=1)
    assert not distributed.is_initialized()
    with pytest.raises(KeyError, match=f'--launcher {launcher} needs'):
        process_rank(launcher, {})
