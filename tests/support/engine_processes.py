"""Runs in processes of their own."""

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
# What a run imports late: two seconds and more in each process of its own.
IMPORTED_ONCE = (
    'engine_processes',
    'matplotlib.pyplot',
    'torch._dynamo',
    'torch.utils.tensorboard',
)
SPAWNER = multiprocessing.get_context('forkserver')


def run_processes(cfg: Config, world_size: int) -> list[int | None]:
    """Train in processes of their own.

    Args:
        world_size: 1 trains without a launcher, more join by gloo.

    Returns:
        Exit code of each; a process that was killed has minus the signal's number.
    """
    return call_in_processes(_train, cfg.to_dict(), world_size)


def call_in_processes(
    function: Callable[[Any, str], None],
    argument: Any,
    world_size: int,
) -> list[int | None]:
    """Call a function in processes that a launcher would have started.

    Args:
        world_size: Processes; 1 has no launcher.

    Returns:
        Exit code of each; a process that was killed has minus the signal's number.
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
    """Start the process that imports all this once, and from which children fork."""
    SPAWNER.set_forkserver_preload([*IMPORTED_ONCE])
    # Python 3.11's server does not take over sys.path.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()


def _variables(world_size: int, port: int) -> list[dict[str, str]]:
    """What torchrun sets in each process; nothing for a lone one."""
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
    """One process."""
    torch.set_num_threads(1)
    gc.freeze()  # as in the tests' own process
    use_plain_config_text()
    # As in a process that was started by hand; the Runner would warn of the change.
    multiprocessing.set_start_method('fork', force=True)
    os.environ.update(variables)
    function(argument, 'pytorch' if variables else 'none')


def _train(settings: dict[str, Any], launcher: str) -> None:
    """Train from the entries of a config."""
    cfg = Config(settings)
    if launcher != 'none':
        cfg.launcher = launcher
        init_distributed(cfg, launcher)
    train(cfg)
    if distributed.is_initialized():
        distributed.destroy_process_group()
