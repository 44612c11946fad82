"""Process groups: joining without a GPU, leaving, and lost processes.

MMEngine's launchers choose a CUDA device before they join. On a machine without one,
:func:`init_distributed` joins by gloo first and leaves MMEngine nothing to do.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

FIRST_PORT, NUM_PORTS = 29500, 1000  # the first is the default of MMEngine and torch
DEFAULT_TIMEOUT = 1800  # seconds, as in MMEngine and torch
# torch's variable -> the launcher's own; torchrun sets torch's variables itself.
LAUNCHER_VARIABLES = {
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
# gloo raises a plain RuntimeError: only its message tells that a process is gone.
LOST_PROCESS_MESSAGE = re.compile(
    r'gloo.*(timed out|connection|broken pipe|no route|unreachable)'
    r'|connection (was )?(reset|closed|refused)|socket timeout|no route to host',
    re.IGNORECASE | re.DOTALL,
)


class LostProcessError(RuntimeError):
    """Another process of the run no longer answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRank:
    """Position of this process in a run."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0


def init_distributed(cfg: Config, launcher: str) -> None:
    """Prepare a distributed run; call it before the Runner is built.

    Without a GPU it joins the process group by gloo. With one, it only chooses the port
    of a SLURM job.

    Args:
        cfg: ``env_cfg.dist_cfg.timeout`` (seconds) is read. Without a GPU,
            ``model_wrapper_cfg.device_ids`` of a DDP wrapper is set to None in place;
            ``find_unused_parameters`` is kept.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        KeyError: If a variable that the launcher sets is missing.
    """
    if launcher == 'slurm':
        os.environ.setdefault('MASTER_PORT', _job_port(os.environ))
    if launcher != 'none':  # MMEngine sets them as well, with a warning
        os.environ.setdefault('OMP_NUM_THREADS', '1')
        os.environ.setdefault('MKL_NUM_THREADS', '1')
    if launcher == 'none' or torch.cuda.is_available():
        return
    set_rank_variables(launcher, os.environ)
    # MMEngine's own wrapper, which it only builds where there is no config of one.
    wrapper = cfg.get('model_wrapper_cfg') or {
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }
    wrapper = {'type': 'MMDistributedDataParallel', **wrapper}
    wrapper_class = MODEL_WRAPPERS.get(wrapper['type'])
    if wrapper_class and issubclass(wrapper_class, DistributedDataParallel):
        wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper
    if not distributed.is_initialized():
        timeout = timedelta(seconds=_timeout(cfg))
        distributed.init_process_group('gloo', timeout=timeout)


def unwrap_model(model: nn.Module) -> Any:
    """Return the model inside wrappers for DDP and test-time augmentation."""
    inner: Any = model
    while is_model_wrapper(inner) or isinstance(inner, BaseTTAModel):
        inner = inner.module
    return inner


def leave_process_group() -> None:
    """Leave the process group, if there is one; all processes must call it."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def lost_process_error(error: RuntimeError, cfg: Config) -> LostProcessError | None:
    """Explain an error that means that another process is gone; None for others."""
    is_lost = isinstance(error, distributed.DistError) or LOST_PROCESS_MESSAGE.search(
        str(error)
    )
    if isinstance(error, LostProcessError) or not is_lost:
        return None
    rank, world_size = (os.environ.get(key, '?') for key in ('RANK', 'WORLD_SIZE'))
    return LostProcessError(
        f'Process {rank} of {world_size}, on {socket.gethostname()}, lost contact with '
        f'the others: they ended, or their machine cannot be reached (the timeout is '
        f'{_timeout(cfg)} s, env_cfg.dist_cfg.timeout). Once it can be reached, run '
        f'the same command with --resume to continue from the last checkpoint. '
        f'({str(error).strip().splitlines()[0]})'
    )


def _timeout(cfg: Config) -> int:
    """Seconds to wait for other processes."""
    dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
    return int(dist_cfg.get('timeout', DEFAULT_TIMEOUT))


def process_rank(
    launcher: str, environment: Mapping[str, str] = os.environ
) -> ProcessRank:
    """Read this process's rank from the launcher's variables, without a process group.

    Args:
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        KeyError: If a variable of the launcher is missing.
    """
    if launcher == 'none':
        return ProcessRank()
    names = LAUNCHER_VARIABLES.get(launcher, {})
    rank, world_size, local_rank = (
        int(_launcher_variable(launcher, names.get(name, name), environment))
        for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    )
    return ProcessRank(rank=rank, world_size=world_size, local_rank=local_rank)


def set_rank_variables(launcher: str, environment: MutableMapping[str, str]) -> None:
    """Set torch's variables from those of SLURM or MPI.

    Args:
        environment: Changed in place. MASTER_ADDR and MASTER_PORT stay where set.

    Raises:
        KeyError: If a variable of the launcher is missing, or the first machine's
            name cannot be determined.
    """
    for name, source in LAUNCHER_VARIABLES.get(launcher, {}).items():
        environment[name] = _launcher_variable(launcher, source, environment)
    environment.setdefault('MASTER_PORT', _job_port(environment))
    if 'MASTER_ADDR' not in environment:
        environment['MASTER_ADDR'] = _first_host(environment.get('SLURM_NODELIST', ''))


def _launcher_variable(launcher: str, name: str, environment: Mapping[str, str]) -> str:
    """Value of an environment variable that a launcher must have set."""
    if name not in environment:
        msg = f'--launcher {launcher} needs the variable {name}; start with {launcher}'
        raise KeyError(msg)
    return environment[name]


def _job_port(environment: Mapping[str, str]) -> str:
    """A port that differs between the SLURM jobs of a machine."""
    return str(FIRST_PORT + int(environment.get('SLURM_JOB_ID', '0')) % NUM_PORTS)


def _first_host(nodes: str) -> str:
    """Name of the first machine of a SLURM list like ``node[3-7]``."""
    scontrol = shutil.which('scontrol')
    if scontrol is not None and nodes:
        command = [scontrol, 'show', 'hostnames', nodes]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return result.stdout.split()[0]
    if not nodes or '[' in nodes:
        msg = f'Cannot determine the first machine of {nodes!r}; set MASTER_ADDR'
        raise KeyError(msg)
    return nodes.split(',', maxsplit=1)[0]
