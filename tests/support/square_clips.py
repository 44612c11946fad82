"""Clips of squares that move, small enough for a training step in a test."""

import torch

from projects.sam2.structures import ClipSample

SIDE = 64


def square_sample(number: int) -> ClipSample:
    """A bright square that moves over noise, with a second one that is dark."""
    generator = torch.Generator().manual_seed(number)
    frames = torch.randint(60, 140, (3, 3, SIDE, SIDE), generator=generator)
    masklets = torch.zeros(3, 2, SIDE, SIDE, dtype=torch.bool)
    for frame in range(3):
        left = 6 + 8 * frame + number
        masklets[frame, 0, 10:30, left : left + 18] = True
        masklets[frame, 1, 38:56, 50 - left : 66 - left] = True
        frames[frame, :, masklets[frame, 0]] = 230
        frames[frame, :, masklets[frame, 1]] = 10
    sample = ClipSample(
        metainfo={'video_name': f'clip{number}', 'seed': number, 'sample_index': number}
    )
    sample.frames = frames.to(torch.uint8)
    sample.masklets = masklets
    sample.void = torch.zeros(3, SIDE, SIDE, dtype=torch.bool)
    sample.annotated = torch.ones(3, dtype=torch.bool)
    sample.object_ids = torch.tensor([1, 2])
    return sample
