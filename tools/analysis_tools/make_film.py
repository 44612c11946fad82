"""Draw a short film of a clip and its tracked masks, to show a model to others.

    python tools/analysis_tools/make_film.py CONFIG CHECKPOINT film.webp
    python tools/analysis_tools/make_film.py CONFIG CHECKPOINT film.gif \
        --clip val_00004 --prompt box --cfg-options data_root=my_clips

The clip is one of the config's validation set. Its objects are prompted on the first
frame, by their true masks or by boxes or clicks drawn from them; the model sees nothing
else of the truth. The suffix chooses the format, all of them animated: .webp (the
smallest), .gif or .png. The film in the README shows the model of the quickstart on a
clip that it was neither trained on nor chosen by:

    bash tools/quickstart.sh
    python tools/dataset_converters/make_synthetic_clips.py data/film --seed 2026 \
        --num-clips 1 --num-frames 8 --num-val-clips 32
    python tools/analysis_tools/make_film.py configs/sam2_mini_synthetic.py \
        work_dirs/quickstart/best_JF_*.pth docs/images/tracked.webp \
        --clip val_00031 --objects 2 --prompt click --cfg-options data_root=data/film
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.engine.command_line import add_cfg_options, call_tool

if TYPE_CHECKING:
    import numpy as np
    from mmengine.config import Config
    from numpy.typing import NDArray

    from projects.sam2.apis import ObjectPrompt, SAM2VideoPredictor
    from projects.sam2.structures import VideoSource
    from projects.sam2.visualization.drawing import Picture

FORMATS = {'.webp': 'WEBP', '.gif': 'GIF', '.png': 'PNG'}
PROMPTS = ('mask', 'box', 'click')
HOLD_SECONDS = 1.5  # of the prompted frame and of the last one
MARGIN = 12  # pixels around the panels


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; None takes ``sys.argv``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model and its validation set')
    add('checkpoint', help='weights of the model')
    add('out', type=Path, help='file of the film: .webp, .gif or .png')
    add('--clip', help='name of the clip (default: the first one)')
    add('--prompt', choices=PROMPTS, default='mask', help='(mask)')
    add('--objects', type=int, nargs='+', metavar='ID', help='(default: all)')
    add('--side', type=int, default=448, help='longer side of a frame in pixels (448)')
    add('--rate', type=float, default=5.0, help='frames per second (5)')
    add('--quality', type=int, default=80, help='of a .webp, 0 to 100 (80)')
    add('--device', help='such as cuda:0 or cpu (default: the best available)')
    add_cfg_options(parser)
    options = parser.parse_args(arguments)
    if options.out.suffix.lower() not in FORMATS:
        parser.error(f'{options.out} is none of {", ".join(FORMATS)}')
    if options.side < 64 or not 0 < options.rate <= 50:
        parser.error('--side starts at 64, and --rate is above 0 and up to 50')
    if not 0 <= options.quality <= 100:
        parser.error(f'--quality is 0 to 100, but got {options.quality}')
    return options


def find_clip(cfg: Config, name: str | None) -> VideoSource:
    """Open a clip of the validation set.

    Raises:
        ValueError: If there is none of this name.
    """
    from mmengine.registry import DATASETS, init_default_scope

    init_default_scope(cfg.get('default_scope') or 'mmengine')
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    names = []
    for index in range(len(dataset)):
        source: VideoSource = dataset[index].source
        if name in {None, source.name}:
            return source
        names.append(source.name)
    near = get_close_matches(str(name), names, n=5) or names[:5]
    msg = f'The validation set has no clip {name!r}, but {", ".join(near)}'
    raise ValueError(msg)


def first_prompts(
    source: VideoSource, kind: str, object_ids: Sequence[int] | None
) -> list[ObjectPrompt]:
    """Make prompts from the true masks of the first frame.

    Raises:
        ValueError: If the first frame does not show the objects.
    """
    import torch

    from projects.sam2.apis import ObjectPrompt
    from projects.sam2.ops import center_error_points, masks_to_boxes

    truth = source.read_masks(0)
    ids, true_masks = ((), ()) if truth is None else (truth.object_ids, truth.masks)
    masks = {n: mask for n, mask in zip(ids, true_masks, strict=True) if mask.any()}
    prompts = []
    for number in object_ids or masks:
        if number not in masks:
            msg = f'{source.name} shows objects {[*masks]} first, but not {number}'
            raise ValueError(msg)
        mask = torch.from_numpy(masks[number])[None, None]
        if kind == 'mask':
            prompt = ObjectPrompt(object_id=number, mask=masks[number])
        elif kind == 'box':
            box = masks_to_boxes(mask)[0].tolist()
            prompt = ObjectPrompt(object_id=number, box=box)
        else:
            click = center_error_points(mask, None).coords[0].tolist()
            prompt = ObjectPrompt(object_id=number, points=click)
        prompts.append(prompt)
    if not prompts:
        msg = f'{source.name} shows no object on its first frame; choose another --clip'
        raise ValueError(msg)
    return prompts


def track(
    predictor: SAM2VideoPredictor, frames: list[Picture], prompts: list[ObjectPrompt]
) -> Iterator[NDArray[np.float32]]:
    """Yield the mask logits, (O, height, width), of each frame."""
    state = predictor.init_state(frames)
    for prompt in prompts:
        if prompt.mask is not None:
            predictor.add_new_mask(state, 0, prompt.object_id, prompt.mask)
        else:
            predictor.add_new_points_or_box(
                state,
                0,
                prompt.object_id,
                prompt.point_coords,
                prompt.point_labels,
                box=prompt.box,
            )
    for result in predictor.propagate_in_video(state):
        yield result.mask_logits[:, 0].float().cpu().numpy()


def draw_panels(
    frame: Picture,
    logits: NDArray[np.float32],
    prompts: list[ObjectPrompt],
    *,
    side: int,
    is_prompted: bool,
) -> tuple[Picture, Picture]:
    """Enlarge a frame and the masks, and draw them over it, so that lines stay fine.

    Args:
        logits: (O, height, width), of the masks.
        side: Longer side in pixels.
        is_prompted: Draw the prompts as well.
    """
    import cv2
    import numpy as np

    from projects.sam2.visualization import Overlay, draw_overlay
    from projects.sam2.visualization.drawing import fitted_size

    height, width = fitted_size((frame.shape[0], frame.shape[1]), side)
    size, scale = (width, height), width / frame.shape[1]
    grows = scale > 1
    method = cv2.INTER_LANCZOS4 if grows else cv2.INTER_AREA
    large = np.asarray(cv2.resize(frame, size, interpolation=method), np.uint8)
    method = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    masks = [cv2.resize(logit, size, interpolation=method) > 0 for logit in logits]
    marks = [mark for prompt in prompts for mark in prompt.marks()]
    overlay = Overlay(
        object_ids=tuple(prompt.object_id for prompt in prompts),
        masks=np.stack(masks),
        prompted_ids=tuple(p.object_id for p in prompts) if is_prompted else (),
        # A pixel's centre is half a pixel from its corner in both grids.
        marks=tuple(
            replace(m, x=(m.x + 0.5) * scale - 0.5, y=(m.y + 0.5) * scale - 0.5)
            for m in marks
        )
        if is_prompted
        else (),
    )
    return large, draw_overlay(large, overlay, long_side=side)


def captions(
    source: VideoSource, prompts: list[ObjectPrompt], kind: str
) -> Iterator[tuple[str, str]]:
    """Yield a caption for each frame: its number, and what happens to the objects.

    The true masks tell which objects are hidden; without them none is said to be.
    """
    ids = {prompt.object_id for prompt in prompts}
    was_hidden: set[int] = set()
    for index in range(source.num_frames):
        truth = source.read_masks(index)
        shown = ids
        if truth is not None:
            objects = zip(truth.object_ids, truth.masks, strict=True)
            shown = {number for number, mask in objects if mask.any()}
        hidden = ids - shown
        if index == 0:
            words = f'prompt: one {kind}' + (' for each object' if len(ids) > 1 else '')
        elif hidden:
            words = f'{_objects(hidden)} out of sight'
        elif was_hidden:
            words = f'{_objects(was_hidden)} back, with the same id'
        else:
            words = f'{_objects(ids)} tracked'
        was_hidden |= hidden
        yield f'frame {index + 1} of {source.num_frames}', words


def _objects(numbers: set[int]) -> str:
    names = ', '.join(map(str, sorted(numbers)))
    return f'object {names} is' if len(numbers) == 1 else f'objects {names} are'


def compose(
    panels: Sequence[Picture],
    names: Sequence[str],
    caption: tuple[str, str],
    done: float,
) -> Picture:
    """Arrange panels beside each other, with names above and a caption below.

    Args:
        caption: Faint and bright words.
        done: Share of the film that has been shown, for a bar at the bottom.
    """
    import numpy as np

    from projects.sam2.visualization.drawing import (
        BACKGROUND,
        FAINT,
        draw_text,
        text_size,
    )

    height, width = panels[0].shape[:2]
    letters = max(12, height // 26)
    line = text_size('0', letters)[0]
    top, below = line + 2 * MARGIN, MARGIN + line + MARGIN
    total_width = MARGIN + len(panels) * (width + MARGIN)
    image = np.full((top + height + below, total_width, 3), BACKGROUND, np.uint8)
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        left = MARGIN + index * (width + MARGIN)
        draw_text(image, name, (left, MARGIN), letter_height=letters)
        image[top : top + height, left : left + width] = panel
    y = top + height + MARGIN
    faint, bright = caption
    draw_text(image, faint, (MARGIN, y), letter_height=letters, color=FAINT)
    left = 3 * MARGIN + text_size('frame 000 of 000', letters)[1]
    if left < total_width:  # a caption that does not fit is cut off
        draw_text(image, bright, (left, y), letter_height=letters)
    bar = round(done * total_width)
    image[-3:, :bar] = FAINT
    return image


def write_film(
    path: Path, pictures: Sequence[Picture], seconds: Sequence[float], quality: int
) -> None:
    """Write an animated picture that repeats for ever.

    Args:
        seconds: How long each picture is shown.
        quality: Of a WebP, 0 to 100.
    """
    from PIL import Image

    from projects.sam2.ops import write_atomically

    encoded = io.BytesIO()
    first, *others = [Image.fromarray(picture) for picture in pictures]
    first.save(
        encoded,
        format=FORMATS[path.suffix.lower()],
        save_all=True,
        append_images=others,
        duration=[round(1000 * second) for second in seconds],
        loop=0,
        **({'quality': quality, 'method': 6} if path.suffix.lower() == '.webp' else {}),
    )
    write_atomically(path, encoded.getvalue())


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the tool; return the path of the film."""
    options = parse_arguments(arguments)
    from projects.sam2.apis import SAM2VideoPredictor, build_sam2
    from projects.sam2.engine.config import load_config

    cfg = load_config(options.config, options.cfg_options)
    source = find_clip(cfg, options.clip)
    prompts = first_prompts(source, options.prompt, options.objects)
    frames = [source.read_frame(index) for index in range(source.num_frames)]
    model = build_sam2(cfg, options.checkpoint, options.device)
    pictures = []
    tracked = track(SAM2VideoPredictor(model), frames, prompts)
    words = captions(source, prompts, options.prompt)
    for index, (frame, logits, caption) in enumerate(
        zip(frames, tracked, words, strict=True)
    ):
        panels = draw_panels(
            frame, logits, prompts, side=options.side, is_prompted=index == 0
        )
        done = (index + 1) / len(frames)
        pictures.append(compose(panels, ('Input', 'Tracked'), caption, done))
    seconds = [1 / options.rate] * len(pictures)
    seconds[0] = seconds[-1] = HOLD_SECONDS
    write_film(options.out, pictures, seconds, options.quality)
    size = options.out.stat().st_size / 1000
    print(f'Drew {options.out}: {source.name}, {len(pictures)} frames, {size:.0f} kB')
    path: Path = options.out
    return path


if __name__ == '__main__':
    call_tool(main)
