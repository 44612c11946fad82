"""The launch scripts pass on the options and variables that MM users know."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
ARGUMENTS = {
    'dist_train': ['c.py', '2'],
    'dist_test': ['c.py', 'w.pth', '2'],
    'slurm_train': ['part', 'job', 'c.py'],
    'slurm_test': ['part', 'job', 'c.py', 'w.pth'],
}


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Stand-ins that print their arguments, one a line."""
    for name in ('python', 'srun'):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
        program.chmod(0o755)
    return tmp_path


def call(stubs: Path, name: str, *arguments: str, **variables: str) -> list[str]:
    """Run a script with the stand-ins first on the path."""
    environment = {**variables, 'PATH': f'{stubs}:{os.environ["PATH"]}'}
    answer = subprocess.run(
        [TOOLS / f'{name}.sh', *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.splitlines()


@pytest.mark.parametrize('name', ARGUMENTS)
def test_script_passes_tool_config_and_options(stubs: Path, name: str) -> None:
    options = ['--cfg-options', 'a=1 2']
    words = call(stubs, name, *ARGUMENTS[name], *options)
    launcher, kind = name.split('_')
    tool = words.index(str(TOOLS / f'{kind}.py'))
    given = ['c.py'] if kind == 'train' else ['c.py', 'w.pth']
    launcher = 'pytorch' if launcher == 'dist' else 'slurm'
    assert words[tool + 1 :] == [*given, '--launcher', launcher, *options]


@pytest.mark.parametrize('name', ['dist_train', 'dist_test'])
def test_torchrun_gets_all_machines(stubs: Path, name: str) -> None:
    machines = {'NNODES': '3', 'NODE_RANK': '1', 'MASTER_ADDR': 'a', 'PORT': '7'}
    expected = [
        '--nnodes=3',
        '--node-rank=1',
        '--nproc-per-node=2',
        '--master-addr=a',
        '--master-port=7',
    ]
    words = call(stubs, name, *ARGUMENTS[name], **machines)
    assert words[1] == str(TOOLS / 'launch.py')
    assert words[2:7] == expected
    assert '--nnodes=1' in call(stubs, name, *ARGUMENTS[name])


@pytest.mark.parametrize('name', ['slurm_train', 'slurm_test'])
@pytest.mark.parametrize(
    ('variables', 'present', 'absent'),
    [
        ({}, ['--gres=gpu:8', '--ntasks=8', '--ntasks-per-node=8'], '--exclusive'),
        ({'GPUS': '4'}, ['--gres=gpu:4', '--cpus-per-task=5'], '--gres=gpu:8'),
        (
            {'GPUS': '16', 'SRUN_ARGS': '--exclusive --mem=8G'},
            ['--ntasks=16', '--gres=gpu:8', '--exclusive', '--mem=8G'],
            '--gres=gpu:16',
        ),
        ({'GPUS': '2', 'GPUS_PER_NODE': '0'}, ['--ntasks=2'], '--gres=gpu:0'),
    ],
)
def test_variables_set_the_options_of_srun(
    stubs: Path, name: str, variables: dict[str, str], present: list[str], absent: str
) -> None:
    words = call(stubs, name, *ARGUMENTS[name], **variables)
    assert words[1:3] == ['--partition=part', '--job-name=job']
    assert set(present) <= set(words)
    assert absent not in words


@pytest.mark.parametrize(
    ('code', 'requeued'), [(75, True), (0, False), (1, False), (143, False)]
)
def test_job_that_a_signal_stopped_is_requeued(
    stubs: Path, code: int, *, requeued: bool
) -> None:
    (stubs / 'srun').write_text(f'#!/bin/sh\nexit {code}\n')
    scontrol = stubs / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n')
    scontrol.chmod(0o755)
    answer = subprocess.run(
        [TOOLS / 'slurm_train.sh', *ARGUMENTS['slurm_train']],
        env={'SLURM_JOB_ID': '17', 'PATH': f'{stubs}:{os.environ["PATH"]}'},
        check=False,
    )
    assert answer.returncode == code
    calls = stubs / 'calls'
    assert (calls.exists() and calls.read_text()) == (requeued and 'requeue 17\n')


@pytest.mark.parametrize('name', ARGUMENTS)
def test_missing_arguments_show_the_usage(stubs: Path, name: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        call(stubs, name, *ARGUMENTS[name][:-1])
    assert caught.value.returncode == 2
    assert 'usage:' in caught.value.stderr
