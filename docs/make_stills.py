"""Draw the stills of the pages: a click, a box, a correction, and everything.

    python docs/make_stills.py docs/weights/sam2_mini.pth

writes ``docs/images/{click,box,correction,everything}.webp``: generated cells that the
small model of the notebooks segments.
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / 'notebooks')]

from cells import draw_clip  # type: ignore[import-not-found]

from projects.sam2.apis import ObjectPrompt, SAM2Inferencer
from projects.sam2.ops import (
    center_error_points,
    decode_masks,
    masks_to_boxes,
    write_atomically,
)
from projects.sam2.visualization.drawing import Mask, Picture, resize
from projects.sam2.visualization.strips import side_by_side

CONFIG = DOCS.parent / 'configs' / 'sam2_mini_synthetic.py'
SIDE = 400  # pixels of a panel
QUALITY = 85
SEED = 1014  # of the image; the model was not trained on it
HARD_CELL = 3  # that one click does not segment well
# Lower than the defaults: the model has seen minutes of training.
AUTOMATIC = {
    'points_per_side': 16,
    'pred_iou_thresh': 0.5,
    'stability_score_thresh': 0.5,
    'box_nms_thresh': 0.3,
}


def click_on_error(cell: Mask, mask: Mask | None = None) -> tuple[list[int], int]:
    """Click where a mask is most wrong: ``[x, y]``, and 1 for inside of the cell."""
    truth = torch.from_numpy(cell)[None, None]
    prediction = None if mask is None else torch.from_numpy(mask)[None, None]
    points = center_error_points(truth, prediction)
    return points.coords[0, 0].int().tolist(), int(points.labels[0, 0])


def segment(
    inferencer: SAM2Inferencer, image: Picture, prompts: Sequence[ObjectPrompt]
) -> tuple[Picture, Mask]:
    """Segment an image; return the overlay, and the mask of the first object."""
    results = inferencer(image, prompts=prompts, return_vis=True)
    frame = results['predictions'][0].frames[0]
    overlay = resize(results['visualization'][0][0], (SIDE, SIDE))
    return overlay, decode_masks([dict(code) for code in frame.masks])[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the stills."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('weights', help='checkpoint of the model of the notebooks')
    parser.add_argument('--out', type=Path, default=DOCS / 'images', help='folder')
    options = parser.parse_args(arguments)
    inferencer = SAM2Inferencer(
        model=CONFIG,
        weights=options.weights,
        device='cpu',
        show_progress=False,
        automatic_masks=AUTOMATIC,
    )

    def write(name: str, panels: Sequence[Picture], names: Sequence[str]) -> None:
        encoded = io.BytesIO()
        picture = Image.fromarray(side_by_side(panels, names, ''))
        picture.save(encoded, format='WEBP', quality=QUALITY)  # a tenth of a PNG
        write_atomically(options.out / f'{name}.webp', encoded.getvalue())

    frames, labels = draw_clip(seed=SEED)
    image, cells = frames[0], [labels[0] == cell for cell in np.unique(labels[0])[1:]]
    plain = resize(image, (SIDE, SIDE))
    clicks = [ObjectPrompt(points=[click_on_error(cells[0])[0]])]
    write('click', (plain, segment(inferencer, image, clicks)[0]), ('Image', 'A click'))
    corners = masks_to_boxes(torch.from_numpy(np.stack(cells))[:, None]).tolist()
    boxes = [
        ObjectPrompt(object_id=number, box=box)
        for number, box in enumerate(corners, start=1)
    ]
    write('box', (plain, segment(inferencer, image, boxes)[0]), ('Image', 'Boxes'))
    everything, _ = segment(inferencer, image, [])
    write('everything', (plain, everything), ('Image', 'Everything, without a prompt'))

    cell = labels[0] == HARD_CELL
    point, label = click_on_error(cell)
    first, mask = segment(inferencer, image, [ObjectPrompt(points=[point])])
    correction, correction_label = click_on_error(cell, mask)
    prompt = ObjectPrompt(points=[point, correction], labels=[label, correction_label])
    corrected, better = segment(inferencer, image, [prompt])
    before, after = (
        (found & cell).sum() / (found | cell).sum() for found in (mask, better)
    )
    print(f'The correction raises the IoU from {before:.2f} to {after:.2f}')
    names = ('A click', 'and a correction')
    write('correction', (first, corrected), names)


if __name__ == '__main__':
    main()
