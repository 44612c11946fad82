"""Checks that no reader runs code from a checkpoint, whatever MMEngine does."""

import os
import pickle
from pathlib import Path

import mmsam2  # noqa: F401  replaces MMEngine's readers
from mmengine.runner import CheckpointLoader

MARK = Path('code_has_run')


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Describe the command."""
        return os.system, (f'touch {MARK}',)


for name in ('harmful.pth', 'harmful.pkl'):
    Path(name).write_bytes(pickle.dumps({'state_dict': Harmful()}))
    try:
        CheckpointLoader.load_checkpoint(name)
    except Exception as error:
        print(f'{name}: {type(error).__name__}: {error}')
    else:
        raise SystemExit(f'{name} was read')
assert not MARK.exists(), 'code from a checkpoint has run'
