"""Several processes, also on machines without a GPU."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.registry import MODEL_WRAPPERS
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

FIRST_PORT, NUM_PORTS = 29500, 1000  # the first is MMEngine's and torch's own
DEFAULT_TIMEOUT = 1800  # seconds, MMEngine's and torch's own
VARIABLES = {
    'slurm': {
        'RANK': 'SLURM_PROCID',
        'WORLD_SIZE': 'SLURM_NTASKS',
        'LOCAL_RANK': 'SLURM_LOCALID',
    },
    'mpi': {
        'RANK': 'OMPI_COMM_WORLD_RANK',
        'WORLD_SIZE': 'OMPI_COMM_WORLD_SIZE',
        'LOCAL_RANK': 'OMPI_COMM_WORLD_LOCAL_RANK',
    },
}

# gloo has no error of its own; these are its words, and torch's.
LOST = re.compile(
    r'gloo.*(timed out|connection|broken pipe|no route|unreachable)'
    r'|connection (was )?(reset|closed|refused)|socket timeout|no route to host',
    re.IGNORECASE | re.DOTALL,
)

__all__ = [
    'LostProcessError',
    'ProcessRank',
    'lost_contact',
    'part_from_processes',
    'prepare_processes',
    'rank_of_process',
    'set_rank_variables',
]


class LostProcessError(RuntimeError):
    """Other processes of the run do not answer any more."""


def lost_contact(error: RuntimeError, cfg: Config) -> LostProcessError | None:
    """Tell whether an error says that another process is gone.

    Returns:
        What to say instead; None where the error is of another kind.
    """
    is_lost = isinstance(error, distributed.DistError) or LOST.search(str(error))
    if isinstance(error, LostProcessError) or not is_lost:
        return None
    rank, world_size = (os.environ.get(key, '?') for key in ('RANK', 'WORLD_SIZE'))
    return LostProcessError(
        f'Process {rank} of {world_size}, on {socket.gethostname()}, lost contact with '
        f'the others: they ended, or their machine cannot be reached (it waits '
        f'{_timeout(cfg)} s for them, env_cfg.dist_cfg.timeout). When they can be '
        f'reached, start the same command with --resume: it goes on from the last '
        f'checkpoint. ({str(error).strip().splitlines()[0]})'
    )


def _timeout(cfg: Config) -> int:
    """Seconds after which a process gives up waiting for the others."""
    settings = cfg.get('env_cfg', {}).get('dist_cfg', {})
    return int(settings.get('timeout', DEFAULT_TIMEOUT))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRank:
    """Which of several processes this is.

    Attributes:
        index: Among all.
        count: Of all.
        local_index: Among those of this machine.
    """

    index: int = 0
    count: int = 1
    local_index: int = 0


def rank_of_process(
    launcher: str, environment: Mapping[str, str] = os.environ
) -> ProcessRank:
    """Ask a launcher which process this is, for work that needs no process group.

    Args:
        launcher: ``'none'`` for a process alone; ``'pytorch'``, ``'slurm'`` or
            ``'mpi'``.

    Raises:
        KeyError: If a variable of the launcher is missing.
    """
    if launcher == 'none':
        return ProcessRank()
    ours = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    names = [VARIABLES.get(launcher, {}).get(name, name) for name in ours]
    missing = [name for name in names if name not in environment]
    if missing:
        msg = f'--launcher {launcher} needs {missing[0]}; start with the launcher'
        raise KeyError(msg)
    index, count, local_index = (int(environment[name]) for name in names)
    return ProcessRank(index=index, count=count, local_index=local_index)


def prepare_processes(cfg: Config, launcher: str) -> None:
    """Join the other processes by gloo where there is no GPU.

    MMEngine's launchers choose a CUDA device first and hand it to the model's wrapper.
    Called before the Runner is built, this leaves them nothing to do. With a GPU it
    only chooses a port where SLURM launches.

    Args:
        cfg: ``model_wrapper_cfg.device_ids`` of a DDP wrapper is set to None in
            place; ``env_cfg.dist_cfg.timeout`` (seconds) is read.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        KeyError: If a variable that the launcher sets is missing.
    """
    if launcher == 'slurm':
        os.environ.setdefault('MASTER_PORT', _job_port(os.environ))
    if launcher == 'none' or torch.cuda.is_available():
        return
    set_rank_variables(launcher, os.environ)
    wrapper = {'type': 'MMDistributedDataParallel', **cfg.get('model_wrapper_cfg', {})}
    kind = MODEL_WRAPPERS.get(wrapper['type'])
    if kind is not None and issubclass(kind, DistributedDataParallel):
        wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper
    if not distributed.is_initialized():
        limit = timedelta(seconds=_timeout(cfg))
        distributed.init_process_group('gloo', timeout=limit)


def part_from_processes() -> None:
    """Leave the process group, if there is one; all processes do so at one point."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def set_rank_variables(launcher: str, environment: MutableMapping[str, str]) -> None:
    """Say in torch's variables what a launcher says in its own.

    Args:
        launcher: ``'slurm'`` or ``'mpi'``; torchrun sets torch's variables itself.
        environment: Changed in place. MASTER_ADDR and MASTER_PORT stay where set.

    Raises:
        KeyError: If a variable of the launcher is missing, or the first machine's
            name cannot be found.
    """
    for ours, theirs in VARIABLES.get(launcher, {}).items():
        if theirs not in environment:
            msg = f'--launcher {launcher} needs {theirs}; start with the launcher'
            raise KeyError(msg)
        environment[ours] = environment[theirs]
    environment.setdefault('MASTER_PORT', _job_port(environment))
    if 'MASTER_ADDR' not in environment:
        environment['MASTER_ADDR'] = _first_host(environment.get('SLURM_NODELIST', ''))


def _job_port(environment: Mapping[str, str]) -> str:
    """A port that jobs of one machine do not share; MMEngine's without a job."""
    return str(FIRST_PORT + int(environment.get('SLURM_JOB_ID', '0')) % NUM_PORTS)


def _first_host(nodes: str) -> str:
    """Name of the first machine of a list like ``node[3-7]``."""
    program = shutil.which('scontrol')
    if program is not None and nodes:
        command = [program, 'show', 'hostnames', nodes]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return answer.stdout.split()[0]
    if not nodes or '[' in nodes:
        msg = f'Cannot tell the first machine of {nodes!r}; set MASTER_ADDR'
        raise KeyError(msg)
    return nodes.split(',', maxsplit=1)[0]
