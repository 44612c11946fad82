"""Writes random weights of SAM 2.1 tiny, in the form of the release, to a folder."""

import sys
from pathlib import Path

from mmsam2.apis import build_sam2, load_model_config
from mmsam2.checkpoints import CheckpointKind, write_checkpoint

NAME = 'sam2.1_hiera_t'

model = build_sam2(NAME, device='cpu')
write_checkpoint(
    Path(sys.argv[1]) / 'sam2.1_hiera_tiny.pt',
    model.state_dict(),
    CheckpointKind.RELEASED,
    load_model_config(NAME).model,
)
