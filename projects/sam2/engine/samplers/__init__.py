"""Which clips and videos a process gets, in which order."""

from projects.sam2.engine.samplers.clip_batch_sampler import ClipBatchSampler
from projects.sam2.engine.samplers.clip_mix_batch_sampler import (
    ClipMixBatchSampler,
)
from projects.sam2.engine.samplers.clip_sampler import ClipSampler
from projects.sam2.engine.samplers.clip_video_sampler import ClipVideoSampler

__all__ = ['ClipBatchSampler', 'ClipMixBatchSampler', 'ClipSampler', 'ClipVideoSampler']
