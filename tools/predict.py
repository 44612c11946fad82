"""Segment an image, a folder, a video, an address or a camera.

    python tools/predict.py photo.jpg sam2.1_hiera_t sam2.1_hiera_tiny.pt \
        --box 60 30 130 120 --out-dir out
    python tools/predict.py clip.mp4 CONFIG CHECKPOINT --point 95 70 --negative 20 20 \
        --object 2 --box 200 80 260 160 --frame 40 --box 190 85 250 170
    python tools/predict.py 0 CONFIG CHECKPOINT --point 320 240 --show
    python tools/predict.py clip.mp4 work_dirs/sam2_onnx --box 60 30 130 120
    python tools/predict.py clip.mp4 CONFIG CHECKPOINT --text 'a dog . a ball .' \
        --detector grounding_dino_swin-t_pretrain_obj365_goldg_cap4m \
        --detector-checkpoint groundingdino_swint_ogc_mmdet-822d7e9d.pth

INPUT is a file, a folder of images (with --video: frames of one video), an http or
rtsp address, or the number of a camera. CONFIG is a file or a name that the model was
released under; the folder of an exported model takes the place of CONFIG and
CHECKPOINT. Prompts are read from left to right: --frame N and --object N apply to
the prompts that follow; --box starts a new object if the current one has a box on the
frame. A --mask holds an object for each label. Without a prompt everything is
segmented; the last group of options configures SAM2AutomaticMaskGenerator.

With --detector, a config or a name of mmdetection, the objects that --text names are
segmented and, in videos and streams, tracked. Detectors with a language model take any
text; others find all of their classes, or those that --text names.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import (
    add_compile_option,
    add_fast_option,
    add_model_arguments,
    add_policy_option,
    call_tool,
    parse_model_arguments,
)

if TYPE_CHECKING:
    from projects.sam2.apis import InferenceResult, ObjectPrompt
    from projects.sam2.bridges.text_inferencer import SAM2TextInferencer

DEFAULT_FOLDER = Path('work_dirs') / 'predict'
FORMATS = ('png', 'json', 'npz')
# Settings of SAM2AutomaticMaskGenerator: type, default (repeated here, since importing
# the class takes seconds) and help text.
SETTINGS: dict[str, tuple[type, float, str]] = {
    'points_per_side': (int, 32, 'points along a side of the image'),
    'points_per_batch': (int, 64, 'points decoded at once'),
    'pred_iou_thresh': (float, 0.8, 'estimated IoU that a mask must exceed'),
    'stability_score_thresh': (float, 0.95, 'stability that a mask must reach'),
    'stability_score_offset': (float, 1.0, 'shift of the threshold for stability'),
    'mask_threshold': (float, 0.0, 'logits above it belong to a mask'),
    'box_nms_thresh': (float, 0.7, 'largest IoU of the boxes of two masks'),
    'crop_n_layers': (int, 0, 'layers of crops, finer in each layer'),
    'crop_nms_thresh': (float, 0.7, 'as --box-nms-thresh, between crops'),
    'crop_overlap_ratio': (float, 512 / 1500, 'overlap of neighbouring crops'),
    'crop_n_points_downscale_factor': (int, 1, 'divisor of the points in each layer'),
    'min_mask_region_area': (float, 0.0, 'fill holes, remove parts of fewer pixels'),
}


class PromptOption(argparse.Action):
    """Collects prompts in the order in which they are given."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Append a prompt."""
        name = (option_string or '').lstrip('-')
        namespace.prompts = [*namespace.prompts, (name, values)]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; None reads that of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('input', help='file, folder, address, or number of a camera')
    add_model_arguments(parser)
    parser.set_defaults(prompts=[])
    numbers: dict[str, Any] = {'type': float, 'action': PromptOption}
    corners = ('X1', 'Y1', 'X2', 'Y2')
    add('--box', nargs=4, metavar=corners, help='box around an object', **numbers)
    add('--point', nargs=2, metavar=('X', 'Y'), help='point on the object', **numbers)
    add('--negative', nargs=2, metavar=('X', 'Y'), help='point off it', **numbers)
    add('--mask', type=Path, action=PromptOption, help='PNG with a label per object')
    which: dict[str, Any] = {'type': int, 'action': PromptOption, 'metavar': 'N'}
    add('--object', help='object of the prompts that follow', **which)
    add('--frame', help='frame of the prompts that follow', **which)
    add('--video', action='store_true', help='the folder holds frames of one video')
    add('--max-frames', type=int, help='stop after this number of frames')
    add('--out-dir', type=Path, default=DEFAULT_FOLDER, help=f'({DEFAULT_FOLDER})')
    add('--formats', nargs='+', choices=FORMATS, default=['png', 'json'])
    add('--device', help='such as cuda:0 or cpu (default: the best available)')
    add('--show', action='store_true', help='show the overlays in a window')
    add_compile_option(parser)
    add_fast_option(parser)
    add_policy_option(parser)
    group = parser.add_argument_group('text')
    add_text = group.add_argument
    add_text('--text', help="phrases or classes, such as 'a dog . a ball .'")
    add_text('--detector', metavar='CONFIG', help='config or name in mmdetection')
    add_text('--detector-checkpoint', metavar='FILE', help='weights of the detector')
    add_text('--language-model', metavar='FOLDER', help='of a detector for any text')
    add_text('--threshold', type=float, help='smallest score of a detection (0.3)')
    every = 'run the detector on every n-th frame of a video (4)'
    add_text('--detect-every', type=int, metavar='N', help=every)
    group = parser.add_argument_group('everything', 'for inputs without a prompt')
    for name, (kind, default, text) in SETTINGS.items():
        group.add_argument(
            f'--{name.replace("_", "-")}',
            f'--{name}',
            type=kind,
            metavar='N',
            help=f'{text} ({default:.4g})',
        )
    group.add_argument(
        '--use-m2m',
        '--use_m2m',
        action='store_true',
        default=None,
        help='feed each mask back to the model once, to refine it',
    )
    return parse_model_arguments(parser, arguments)


def read_settings(options: argparse.Namespace) -> dict[str, float]:
    """Settings of the mask generator that the command line sets.

    Raises:
        ValueError: If there is a prompt as well.
    """
    settings = {name: getattr(options, name) for name in (*SETTINGS, 'use_m2m')}
    settings = {name: v for name, v in settings.items() if v is not None}
    if settings and options.prompts:
        name = next(iter(settings)).replace('_', '-')
        msg = f'--{name} is for everything in an image; leave it or the prompts out'
        raise ValueError(msg)
    return settings


def read_text_options(options: argparse.Namespace) -> dict[str, Any] | None:
    """Options of a call of :class:`SAM2TextInferencer`; None without a detector.

    Raises:
        ValueError: If options of text prompts come without a detector, or there are
            prompts of another kind.
    """
    names = ('text', 'detector_checkpoint', 'language_model', 'threshold')
    given = [n for n in (*names, 'detect_every') if getattr(options, n) is not None]
    if options.detector is None:
        if given:
            name = given[0].replace('_', '-')
            msg = f'--{name} is for a detector; give --detector CONFIG of mmdetection'
            raise ValueError(msg)
        return None
    if options.prompts:
        msg = (
            f'--{options.prompts[0][0]} is for prompts by hand; leave it or --detector '
            f'out'
        )
        raise ValueError(msg)
    if settings := read_settings(options):
        name = next(iter(settings)).replace('_', '-')
        msg = f'--{name} is for everything in an image; leave it or --detector out'
        raise ValueError(msg)
    named = ('text', 'threshold', 'detect_every')
    return {n: getattr(options, n) for n in named if getattr(options, n) is not None}


def build_text_inferencer(options: argparse.Namespace) -> SAM2TextInferencer:
    """Build the detector and SAM 2.

    Raises:
        ValueError: If the detector has no weights.
    """
    from projects.sam2.bridges.detection.detector import Detector
    from projects.sam2.bridges.detection.detector_configs import (
        download_hint,
        find_detector_config,
    )
    from projects.sam2.bridges.text_inferencer import SAM2TextInferencer

    if options.detector_checkpoint is None:
        hint = download_hint(find_detector_config(options.detector))
        msg = f'--detector {options.detector} needs --detector-checkpoint FILE{hint}'
        raise ValueError(msg)
    detector = Detector(
        options.detector,
        options.detector_checkpoint,
        device=options.device,
        language_model=options.language_model,
    )
    return SAM2TextInferencer(
        detector=detector,
        model=options.config,
        weights=options.checkpoint,
        device=options.device,
        compile=options.compile,
        fast=options.fast,
        policy=options.policy,
    )


def read_prompts(options: Sequence[tuple[str, Any]]) -> list[ObjectPrompt]:
    """Merge the prompts of the command line, one per object and frame."""
    from projects.sam2.apis import ObjectPrompt

    prompts: dict[tuple[int, int], dict[str, Any]] = {}  # by object and frame
    masks: list[ObjectPrompt] = []
    frame, number = 0, 1
    for name, value in options:
        if name == 'frame':
            frame = value
        elif name == 'object':
            number = value
        elif name == 'mask':
            masks += read_mask_prompts(value, frame)
        elif name == 'box':
            if 'box' in prompts.get((number, frame), {}):
                number = 1 + max(object_id for object_id, _ in prompts)
            prompts.setdefault((number, frame), {})['box'] = tuple(value)
        else:
            prompt = prompts.setdefault((number, frame), {})
            prompt.setdefault('points', []).append(tuple(value))
            prompt.setdefault('labels', []).append(int(name == 'point'))
    return [
        ObjectPrompt(object_id=object_id, frame_index=frame_index, **prompt)
        for (object_id, frame_index), prompt in prompts.items()
    ] + masks


def read_mask_prompts(path: Path, frame: int) -> list[ObjectPrompt]:
    """Read each label of a PNG as the mask of an object.

    Raises:
        ValueError: If there is no label but 0.
    """
    from projects.sam2.apis import ObjectPrompt
    from projects.sam2.datasets.io.images import read_labels

    labels = read_labels(path)
    object_ids = sorted({*labels.flatten().tolist()} - {0})
    if not object_ids:
        msg = f'{path} holds no label but 0; draw the object with another one'
        raise ValueError(msg)
    return [
        ObjectPrompt(object_id=number, frame_index=frame, mask=labels == number)
        for number in object_ids
    ]


def describe_files(
    results: Sequence[InferenceResult], folder: Path, formats: Sequence[str]
) -> str:
    """Say in one line what was found, and where the overlays and masks of it are."""
    frames = [frame for result in results for frame in result.frames]
    if not frames:
        return 'Nothing was written: the input has no frame'
    num_masks = sum(len(frame.object_ids) for frame in frames)
    if len(results) > 1:
        overlays, masks = folder / 'vis', folder / 'pred'
        subject = f'{len(results)} inputs, {_count(num_masks, "mask")}'
    else:
        (result,) = results
        objects = {
            number: name
            for frame in frames
            for number, name in zip_longest(
                frame.object_ids, frame.categories, fillvalue=''
            )
        }
        is_still = len(frames) == 1
        overlays = folder / 'vis' / f'{result.name}{".png" if is_still else ".mp4"}'
        masks = folder / 'pred' / result.name
        subject = f'{result.name}: {_count(len(objects), "object")}'
        classes = Counter(filter(None, objects.values()))
        if classes:
            names = (f'{number} {name}' for name, number in classes.most_common())
            subject += f' ({", ".join(names)})'
        if not is_still:
            subject += f' in {len(frames)} frames'
    return f'{subject}; overlay: {overlays}, masks: {masks} ({", ".join(formats)})'


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}{"" if number == 1 else "s"}'


def main(arguments: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Run the tool; return the results of :class:`SAM2Inferencer`."""
    options = parse_arguments(arguments)
    import projects.sam2.registration  # noqa: F401  registers the parts
    from projects.sam2.apis import SAM2Inferencer

    text_options = read_text_options(options)
    call: Callable[..., dict[str, list[Any]]]
    if text_options is not None:
        call = partial(build_text_inferencer(options), **text_options)
    else:
        inferencer = SAM2Inferencer(
            model=options.config,
            weights=options.checkpoint,
            device=options.device,
            automatic_masks=read_settings(options),
            compile=options.compile,
            fast=options.fast,
            policy=options.policy,
        )
        call = partial(inferencer, prompts=read_prompts(options.prompts))
    results = call(
        options.input,
        folder_is_video=options.video,
        max_frames=options.max_frames,
        show=options.show,
        wait_time=1e-3,
        out_dir=options.out_dir,
        pred_formats=options.formats,
    )
    print(describe_files(results['predictions'], options.out_dir, options.formats))
    return results


if __name__ == '__main__':
    call_tool(main, exit_code=2)
