"""Draw training clips as the training loop sees them, with their prompts.

The config's loader, preprocessor and prompt simulator are used with the seed of the
run, so batch 3 of epoch 5 is the one that training sees. Masks are tinted, prompted
objects have a white outline; the caption of a frame is its index in the video, the kind
of its prompt and its number of correction clicks. Where these clicks are depends on the
errors of a model: they are drawn with --checkpoint.

    python tools/analysis_tools/browse_clips.py configs/sam2_bplus_mose.py
    python tools/analysis_tools/browse_clips.py configs/sam2_bplus_mose.py \
        --out sheet.png --batches 6 --cfg-options data_root=/data/MOSE/train

With --out FILE.png all clips are on one sheet, else each has a file in the folder.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

import torch
from browse_dataset import parse_arguments  # type: ignore[import-not-found]
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

import projects.sam2.registration  # noqa: F401  registers the parts
from projects.sam2.apis import build_sam2
from projects.sam2.engine.command_line import call_tool
from projects.sam2.engine.config import load_config
from projects.sam2.engine.samplers import ClipBatchSampler, ClipMixBatchSampler
from projects.sam2.models import SAM2
from projects.sam2.models.data_preprocessor import ClipDataPreprocessor
from projects.sam2.models.prompt_simulator import PromptPlan, SAM2PromptSimulator
from projects.sam2.models.tracking.clip import preview_prompts
from projects.sam2.structures import (
    ClipBatch,
    ClipSample,
    FramePrompt,
    PointPrompt,
    TrackingMode,
)
from projects.sam2.visualization.clip_visualizer import write_png
from projects.sam2.visualization.drawing import Picture
from projects.sam2.visualization.strips import (
    TrainingClip,
    draw_training_clip,
    stack,
)

WORKER_SETTINGS = ('prefetch_factor', 'persistent_workers', 'pin_memory')


def training_loader(cfg: Config) -> DataLoader[list[ClipSample]]:
    """Build the training loader of a run, without workers."""
    settings = {
        key: value
        for key, value in cfg.train_dataloader.items()
        if key not in WORKER_SETTINGS
    }
    settings['num_workers'] = 0
    return Runner.build_dataloader(settings, seed=cfg.get('randomness', {}).get('seed'))


def clips_of_batch(
    samples: Sequence[ClipSample],
    plan: PromptPlan,
    simulator: SAM2PromptSimulator,
    preprocessor: ClipDataPreprocessor,
    model: SAM2 | None = None,
) -> Iterator[TrainingClip]:
    """Prepare a batch as the model does, and split it into its clips.

    Args:
        samples: Clips of the batch.
        plan: Prompts of the batch.
        simulator: Makes the prompts.
        preprocessor: Makes the batch.
        model: Its errors get correction clicks; None for no clicks.
    """
    batch = preprocessor.collate(samples)
    plan = plan.where_annotated(batch.annotated_frames)
    prompts = preview_prompts(simulator, batch, plan)
    clicks = {} if model is None else clicks_on_errors(model, batch, plan)
    frames = (batch.frames * preprocessor.std + preprocessor.mean).round()
    pixels = frames.clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    for index, sample in enumerate(samples):
        is_own = batch.video_of_object == index  # (O,), objects of the clip
        yield TrainingClip(
            title=sample.video_name,
            frames=pixels[index * batch.num_frames :][: batch.num_frames],
            masks=batch.targets.masks[:, is_own].numpy(),
            void=sample.void.numpy(),
            annotated=sample.annotated.numpy(),
            object_ids=tuple(sample.object_ids.tolist()),
            frame_indices=sample.frame_indices,
            prompts={t: _select(prompt, is_own) for t, prompt in prompts.items()},
            corrections=dict.fromkeys(
                plan.correction_frames, simulator.num_corrections
            ),
            clicks={t: _select(points, is_own) for t, points in clicks.items()},
        )


@torch.no_grad()
def clicks_on_errors(
    model: SAM2, batch: ClipBatch, plan: PromptPlan
) -> dict[int, FramePrompt]:
    """Return all points of each frame, also those on the errors of a model."""
    outputs = model.track(batch, plan, TrackingMode.TRAINING)
    return {
        output.frame_index: FramePrompt(points=output.final.points)
        for output in outputs
        if output.final.points is not None
    }


def _select(prompt: FramePrompt, is_own: Tensor) -> FramePrompt:
    """Select the objects of a clip."""
    if prompt.points is None:
        return FramePrompt(mask=None if prompt.mask is None else prompt.mask[is_own])
    points = PointPrompt(
        coords=prompt.points.coords[is_own], labels=prompt.points.labels[is_own]
    )
    return FramePrompt(points=points)


def draw_clips(
    cfg: Config, options: argparse.Namespace, *, with_frames: bool
) -> Iterator[tuple[str, Picture]]:
    """Yield a name and a picture for each clip of the batches.

    Raises:
        TypeError: If the loader's batch sampler cannot start at a batch.
    """
    loader = training_loader(cfg)
    batches = loader.batch_sampler
    if not isinstance(batches, ClipBatchSampler | ClipMixBatchSampler):
        kind = type(batches).__name__
        msg = f'train_dataloader has a {kind}; give it a ClipBatchSampler'
        raise TypeError(msg)
    simulator = MODELS.build(cfg.model.prompt_simulator)
    preprocessor = MODELS.build(
        cfg.model.get('data_preprocessor') or {'type': 'ClipDataPreprocessor'}
    )
    model = None
    if options.checkpoint:
        model = build_sam2(cfg, options.checkpoint)
    batches.sampler.set_epoch(options.epoch)
    batches.start_at(options.first)
    for batch, samples in enumerate(islice(loader, options.batches), options.first):
        plan = simulator.plan(
            samples[0].frames.shape[0],
            step=options.epoch * len(batches) + batch,
            seed=cfg.get('randomness', {}).get('seed') or 0,
        )
        clips = clips_of_batch(samples, plan, simulator, preprocessor, model)
        for index, clip in enumerate(clips):
            picture = draw_training_clip(
                clip, long_side=options.long_side, with_frames=with_frames
            )
            yield f'{options.epoch:03d}_{batch:05d}_{index}', picture


def main(arguments: Sequence[str] | None = None) -> list[Path]:
    """Run the tool; return the paths of the pictures."""
    return browse(parse_arguments(arguments))


def browse(options: argparse.Namespace) -> list[Path]:
    """Draw clips; return the paths of the pictures."""
    cfg = load_config(options.config, options.cfg_options)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    out = options.out or Path('work_dirs') / 'browse' / Path(options.config).stem
    if out.suffix == '.png':
        drawn = draw_clips(cfg, options, with_frames=False)
        write_png(out, stack([picture for _, picture in drawn]))
        written = [out]
    else:
        written = []
        for name, picture in draw_clips(cfg, options, with_frames=True):
            written.append(out / f'{name}.png')
            write_png(written[-1], picture)
    print(f'Drew {out}' + ('' if written == [out] else f': {len(written)} clips'))
    return written


if __name__ == '__main__':
    call_tool(main)
