"""Training runs in separate processes."""

import gc
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from torch import distributed

from engine_toys import train
from plain_config_text import use_plain_config_text
from projects.sam2.engine.distributed import init_distributed

CHILD_SECONDS = 120
# Imports of a run that take seconds in each new process.
IMPORTED_ONCE = (
    'engine_processes',
    'matplotlib.pyplot',
    'torch._dynamo',
    'torch.utils.tensorboard',
)
SPAWNER = multiprocessing.get_context('forkserver')


def run_processes(cfg: Config, world_size: int) -> list[int | None]:
    """Train in separate processes.

    Args:
        world_size: 1 trains without a launcher, more join by gloo.

    Returns:
        Exit codes; that of a killed process is the negative number of the signal.
    """
    return call_in_processes(_train, cfg.to_dict(), world_size)


def call_in_processes(
    function: Callable[[Any, str], None],
    argument: Any,
    world_size: int,
) -> list[int | None]:
    """Call a function in processes as a launcher would start them.

    Args:
        world_size: Number of processes; 1 runs without a launcher.

    Returns:
        Exit codes; that of a killed process is the negative number of the signal.
    """
    _start_server()
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    children = [
        SPAWNER.Process(target=_child, args=(function, argument, variables))
        for variables in _variables(world_size, port)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(CHILD_SECONDS)
        child.kill()
        child.join()
    return [child.exitcode for child in children]


def _start_server() -> None:
    """Start the server process that has imported all this and forks the others."""
    SPAWNER.set_forkserver_preload([*IMPORTED_ONCE])
    # The server of Python 3.11 does not inherit sys.path.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()


def _variables(world_size: int, port: int) -> list[dict[str, str]]:
    """Return the variables that torchrun sets in each process."""
    if world_size == 1:
        return [{}]
    shared = {
        'WORLD_SIZE': str(world_size),
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': str(port),
    }
    return [
        {'RANK': str(rank), 'LOCAL_RANK': str(rank), **shared}
        for rank in range(world_size)
    ]


def _child(
    function: Callable[[Any, str], None],
    argument: Any,
    variables: dict[str, str],
) -> None:
    """Run in one of the processes."""
    torch.set_num_threads(1)
    gc.freeze()  # as in conftest.py
    use_plain_config_text()
    # The default of a process started by hand; the Runner warns of a change.
    multiprocessing.set_start_method('fork', force=True)
    os.environ.update(variables)
    function(argument, 'pytorch' if variables else 'none')


def _train(settings: dict[str, Any], launcher: str) -> None:
    """Train from the dict of a config."""
    cfg = Config(settings)
    if launcher != 'none':
        cfg.launcher = launcher
        init_distributed(cfg, launcher)
    train(cfg)
    if distributed.is_initialized():
        distributed.destroy_process_group()
