"""Runs of the toy model in processes of their own."""

import multiprocessing
import os
import socket
import sys
from multiprocessing import forkserver
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from torch import distributed

from engine_toys import train
from projects.sam2.engine.distributed import prepare_processes

CHILD_SECONDS = 120
SPAWNER = multiprocessing.get_context('forkserver')


def run_processes(cfg: Config, world_size: int) -> list[int | None]:
    """Train in processes of their own.

    Args:
        cfg: Of the run.
        world_size: 1 trains without a launcher, more join by gloo.

    Returns:
        Exit code of each; a process that was killed has minus the signal's number.
    """
    _start_server()
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    children = [
        SPAWNER.Process(target=_child, args=(cfg.to_dict(), rank, world_size, port))
        for rank in range(world_size)
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
    SPAWNER.set_forkserver_preload(['engine_processes'])
    # Python 3.11's server does not take over sys.path.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()


def _child(settings: dict[str, Any], rank: int, world_size: int, port: int) -> None:
    """One process of a run."""
    torch.set_num_threads(1)
    # As in a process that was started by hand; the Runner would warn of the change.
    multiprocessing.set_start_method('fork', force=True)
    cfg = Config(settings)
    if world_size > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world_size),
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=str(port),
        )
        cfg.launcher = 'pytorch'
        prepare_processes(cfg, 'pytorch')
    train(cfg)
    if distributed.is_initialized():
        distributed.destroy_process_group()
