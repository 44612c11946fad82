"""Count parameters and FLOPs of a model, by part, for one frame of a video.

    python tools/analysis_tools/get_flops.py configs/sam2_tiny_mose.py
    python tools/analysis_tools/get_flops.py sam2.1_hiera_t --shape 512 512 \
        --num-objects 3 --json flops.json

The numbers are multiply-adds of matrix products, convolutions and attention, as
mmdetection and mmsegmentation count FLOPs. The frame is a late one, whose memory bank
is full. Weights are random; the count does not depend on them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import add_cfg_options, call_tool

# Parts of the model: title and module.
PARTS = (
    ('image encoder', 'image_encoder'),
    ('memory attention', 'tracker.memory_attention'),
    ('prompt encoder', 'prompt_encoder'),
    ('mask decoder', 'mask_decoder'),
    ('memory encoder', 'tracker.memory_encoder'),
)
REST = 'rest'
# Object pointers that a frame attends to at most, with that of a prompt.
NUM_POINTERS = 16
FLOPS_PER_MULTIPLY_ADD = 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or the name of a released model')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        metavar='SIDE',
        help='height and width of the input, or one side (default: that of the config)',
    )
    parser.add_argument(
        '--num-objects', type=int, default=1, help='tracked objects (default 1)'
    )
    parser.add_argument(
        '--json', type=Path, metavar='FILE', help='write the numbers to a file as well'
    )
    add_cfg_options(parser)
    return parser.parse_args(arguments)


def count_parameters(model: Any) -> dict[str, int]:
    """Count the parameters of each part."""
    counts = {
        title: sum(p.numel() for p in model.get_submodule(name).parameters())
        for title, name in PARTS
    }
    total = sum(p.numel() for p in model.parameters())
    return {**counts, REST: total - sum(counts.values())}


def count_flops(model: Any, num_objects: int) -> dict[str, dict[str, int]]:
    """Count multiply-adds of a click on a first frame and of tracking a late frame.

    Args:
        model: A SAM 2 in eval mode.
        num_objects: Number of objects.

    Returns:
        ``click`` and ``track``, each with a number for each part.
    """
    import numpy as np
    import torch

    from projects.sam2.models.tracking.session import SessionOptions, VideoSession
    from projects.sam2.structures import FramePrompt, PointPrompt

    device = model.data_preprocessor.device
    height, width = model.data_preprocessor.image_size
    bank = model.tracker.memory_bank
    num_frames = 1 + max(bank.num_frames * bank.stride, NUM_POINTERS)
    frame = np.zeros((height, width, 3), np.uint8)
    session = VideoSession(
        model,
        lambda _: frame,
        num_frames,
        options=SessionOptions(
            num_cached_embeddings=num_frames, max_batch_objects=num_objects
        ),
    )
    ids = range(num_objects)
    point = torch.tensor([[[width / 2, height / 2]]], device=device)
    points = PointPrompt(
        coords=point.expand(num_objects, 1, 2),
        labels=torch.ones(num_objects, 1, dtype=torch.int32, device=device),
    )

    def click() -> None:
        session.add_prompt(0, ids, FramePrompt(points=points))
        session.commit()

    counts = {'click': _count(model, click)}
    session.embeddings[1] = session.features(0)
    session.step(1)
    objects: Any = session.objects.values()
    for obj in objects:
        for index in range(2, num_frames - 1):  # the number of memories counts
            obj.add(index, obj.store.tracked[1], conditioning=False)
    counts['track'] = _count(model, lambda: session.step(num_frames - 1))
    return counts


def _count(model: Any, run: Any) -> dict[str, int]:
    """Multiply-adds of a call, by part."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # A CPU multiplies by oneDNN, which the counter does not know.
    mapping = {torch.ops.mkldnn._linear_pointwise: _linear_flops}  # noqa: SLF001
    with (
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping=mapping) as counter,
    ):
        run()
    by_module = counter.get_flop_counts()  # by class, for modules that are called first
    names = {title: type(model.get_submodule(name)).__name__ for title, name in PARTS}
    counts = {
        title: sum(by_module.get(name, {}).values()) // FLOPS_PER_MULTIPLY_ADD
        for title, name in names.items()
    }
    total = counter.get_total_flops() // FLOPS_PER_MULTIPLY_ADD
    return {**counts, REST: total - sum(counts.values())}


def _linear_flops(*shapes: Any, out_shape: Any, **_: object) -> int:
    """Flops of a linear layer, from the shapes of rows, weight and bias."""
    import math

    num_products: int = math.prod(out_shape) * shapes[1][-1]
    return FLOPS_PER_MULTIPLY_ADD * num_products


def format_table(
    parameters: dict[str, int], flops: dict[str, dict[str, int]]
) -> list[str]:
    """Format a line for each part, and the total."""
    columns = [parameters, flops['click'], flops['track']]
    lines = [f'{"part":<18}{"parameters":>13}{"click":>13}{"tracked frame":>16}']
    for title in (*parameters, 'total'):
        numbers = [
            sum(column.values()) if title == 'total' else column[title]
            for column in columns
        ]
        millions, click, track = numbers[0] / 1e6, numbers[1] / 1e9, numbers[2] / 1e9
        lines.append(f'{title:<18}{millions:>11.3f} M{click:>11.3f} G{track:>14.3f} G')
    return lines


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Count and print; return parameters and FLOPs.

    Raises:
        ValueError: If the shape or the number of objects cannot be used.
    """
    options = parse_arguments(arguments)
    if options.shape is not None and len(options.shape) > 2:
        msg = f'--shape {options.shape}: give height and width, or one side'
        raise ValueError(msg)
    if options.num_objects < 1:
        msg = f'--num-objects {options.num_objects}: give at least 1'
        raise ValueError(msg)
    import projects.sam2.registration  # noqa: F401  the parts that configs name
    from projects.sam2.apis import build_sam2, load_model_config
    from projects.sam2.ops import write_atomically

    cfg = load_model_config(options.config)
    if options.cfg_options:
        cfg.merge_from_dict(options.cfg_options)
    shape = options.shape
    size = None if shape is None else (shape[0], shape[-1])
    model = build_sam2(cfg, device='cpu', image_size=size)
    parameters = count_parameters(model)
    flops = count_flops(model, options.num_objects)
    height, width = model.data_preprocessor.image_size
    objects = f'{options.num_objects} object{"s" * (options.num_objects > 1)}'
    print(f'{options.config}: {height} x {width}, {objects}; multiply-adds')
    print('\n'.join(format_table(parameters, flops)))
    result = {
        'image_size': [height, width],
        'num_objects': options.num_objects,
        'parameters': parameters,
        'multiply_adds': flops,
    }
    if options.json is not None:
        write_atomically(options.json, json.dumps(result, indent=2))
    return result


if __name__ == '__main__':
    call_tool(main)
