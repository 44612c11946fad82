"""Segment an image, a folder, a video, an address or a camera.

    python tools/predict.py photo.jpg sam2.1_hiera_t sam2.1_hiera_tiny.pt \
        --box 60 30 130 120 --out-dir out
    python tools/predict.py clip.mp4 CONFIG CHECKPOINT --point 95 70 --negative 20 20 \
        --object 2 --box 200 80 260 160 --frame 40 --box 190 85 250 170
    python tools/predict.py 0 CONFIG CHECKPOINT --point 320 240 --show

INPUT is a file, a folder of images (with --video: frames of one video), an http or
rtsp address, or the number of a camera. CONFIG is a file or a name that the model was
released under. Prompts are read from left to right: --frame N and --object N say what
those after them are about; --box begins another object where the one before has a box
on the frame. A --mask holds an object for each label. Without a prompt everything is
segmented: the options that end the list below are those of SAM2AutomaticMaskGenerator.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

import projects.sam2  # noqa: F401  after the path is set; registers the parts
from projects.sam2.apis import ObjectPrompt, SAM2AutomaticMaskGenerator, SAM2Inferencer
from projects.sam2.apis.inference_io import FORMATS
from projects.sam2.datasets.io.images import read_labels
from projects.sam2.engine.command_line import call_tool

DEFAULT_FOLDER = Path('work_dirs') / 'predict'
# Of SAM2AutomaticMaskGenerator: how they are read, and what they do.
SETTINGS: dict[str, tuple[type, str]] = {
    'points_per_side': (int, 'points along a side of the image'),
    'points_per_batch': (int, 'points decoded at once'),
    'pred_iou_thresh': (float, 'IoU that the model must predict of a mask'),
    'stability_score_thresh': (float, 'stability that a mask must reach'),
    'stability_score_offset': (float, 'shift of the threshold for the stability'),
    'mask_threshold': (float, 'masks are where logits exceed it'),
    'box_nms_thresh': (float, 'largest IoU of the boxes of two masks'),
    'crop_n_layers': (int, 'look at crops as well, finer in each layer'),
    'crop_nms_thresh': (float, 'as --box-nms-thresh, between crops'),
    'crop_overlap_ratio': (float, 'overlap of neighbouring crops'),
    'crop_n_points_downscale_factor': (int, 'fewer points in each layer of crops'),
    'min_mask_region_area': (float, 'close holes and drop parts of fewer pixels'),
}


class Said(argparse.Action):
    """Keeps prompts in the order in which they were given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Append one."""
        name = (option_string or '').lstrip('-')
        namespace.said = [*namespace.said, (name, values)]


@dataclass(slots=True, kw_only=True)
class Sayings:
    """What was said about one object on one frame."""

    box: tuple[float, ...] | None = None
    points: list[tuple[float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: Words after the program's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('input', help='file, folder, address, or number of a camera')
    add('config', help='config file or released name')
    add('checkpoint', help='released weights or a checkpoint of ours')
    parser.set_defaults(said=[])
    corners, place = ('X1', 'Y1', 'X2', 'Y2'), ('X', 'Y')
    add('--box', nargs=4, type=float, action=Said, metavar=corners, help='of an object')
    for name, where in (('--point', 'on the object'), ('--negative', 'outside of it')):
        add(name, nargs=2, type=float, action=Said, metavar=place, help=where)
    add('--mask', type=Path, action=Said, help='PNG with a label for each object')
    add('--object', type=int, action=Said, metavar='N', help='what follows is of it')
    add('--frame', type=int, action=Said, metavar='N', help='what follows is there')
    add('--video', action='store_true', help='the folder holds frames of one video')
    add('--max-frames', type=int, help='stop a video or stream after so many')
    add('--out-dir', type=Path, default=DEFAULT_FOLDER, help=f'({DEFAULT_FOLDER})')
    add('--formats', nargs='+', choices=FORMATS, default=['png', 'json'])
    add('--device', help='such as cuda:0 or cpu; the best there is by default')
    add('--show', action='store_true', help='in a window, while it runs')
    group = parser.add_argument_group('everything', 'where there is no prompt')
    defaults = {each.name: each.default for each in fields(SAM2AutomaticMaskGenerator)}
    for name, (kind, what) in SETTINGS.items():
        group.add_argument(
            f'--{name.replace("_", "-")}',
            f'--{name}',
            type=kind,
            metavar='N',
            help=f'{what} ({defaults[name]})',
        )
    group.add_argument(
        '--use-m2m',
        '--use_m2m',
        action='store_true',
        default=None,
        help='feed each mask back to the model once, for a better one',
    )
    return parser.parse_args(arguments)


def read_settings(options: argparse.Namespace) -> dict[str, float]:
    """Settings of the automatic masks that the command line names.

    Raises:
        ValueError: If there is a prompt as well.
    """
    settings = {name: getattr(options, name) for name in (*SETTINGS, 'use_m2m')}
    settings = {name: v for name, v in settings.items() if v is not None}
    if settings and options.said:
        name = next(iter(settings)).replace('_', '-')
        msg = f'--{name} is for everything in an image; leave it or the prompts out'
        raise ValueError(msg)
    return settings


def read_prompts(said: Sequence[tuple[str, Any]]) -> list[ObjectPrompt]:
    """Bring what was said from left to right into one prompt for each object."""
    sayings: dict[tuple[int, int], Sayings] = {}
    masks: list[ObjectPrompt] = []
    frame, number = 0, 1
    for name, value in said:
        if name == 'frame':
            frame = value
        elif name == 'object':
            number = value
        elif name == 'mask':
            masks += _prompts_of(value, frame)
        else:
            earlier = sayings.get((number, frame))
            if name == 'box' and earlier is not None and earlier.box is not None:
                number = 1 + max(known for known, _ in sayings)
            _add(sayings.setdefault((number, frame), Sayings()), name, value)
    prompts = [
        ObjectPrompt(
            object_id=number,
            frame_index=frame,
            points=one.points,
            labels=one.labels,
            box=one.box,
        )
        for (number, frame), one in sayings.items()
    ]
    return [*prompts, *masks]


def _add(sayings: Sayings, name: str, value: Sequence[float]) -> None:
    """Add a box or a point."""
    if name == 'box':
        sayings.box = tuple(value)
    else:
        sayings.points.append((value[0], value[1]))
        sayings.labels.append(int(name == 'point'))


def _prompts_of(path: Path, frame: int) -> list[ObjectPrompt]:
    """Each label of a PNG as the mask of an object."""
    labels = read_labels(path)
    ids = sorted({*labels.flatten().tolist()} - {0})
    if not ids:
        msg = f'{path} holds no label but 0; draw the object with another one'
        raise ValueError(msg)
    return [
        ObjectPrompt(object_id=number, frame_index=frame, mask=labels == number)
        for number in ids
    ]


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Segment as the command line says.

    Args:
        arguments: Words after the program's name; None takes those of the process.

    Returns:
        What :class:`SAM2Inferencer` returns.
    """
    options = parse_arguments(arguments)
    inferencer = SAM2Inferencer(
        model=options.config,
        weights=options.checkpoint,
        device=options.device,
        automatic_masks=read_settings(options),
    )
    results = inferencer(
        options.input,
        prompts=read_prompts(options.said),
        folder_is_video=options.video,
        max_frames=options.max_frames,
        show=options.show,
        wait_time=1e-3,
        out_dir=options.out_dir,
        pred_formats=options.formats,
    )
    for result in results['predictions']:
        object_ids = {number for frame in result.frames for number in frame.object_ids}
        frames = '' if len(result.frames) == 1 else f'{len(result.frames)} frames, '
        print(f'{result.name}: {frames}objects: {len(object_ids)}')
    print(f'Written to {options.out_dir}')
    return results


if __name__ == '__main__':
    call_tool(main, exit_code=2)
