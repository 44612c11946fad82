"""Draw clips of fluorescent cells, for the notebooks and tutorials.

    python docs/notebooks/cells.py data/cells

writes 12 clips of 16 frames in the layout of DAVIS, with ``ImageSets/train.txt`` and
``val.txt``, and the first frame of each once more as an image with a label image
(``images/``, ``labels/``, ``train.txt``, ``val.txt``).
"""

import argparse
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.datasets.sources.cells import draw_clip

Pixels = NDArray[np.uint8]

NUM_CLIPS = 12
VAL_SHARE = 0.2
PALETTE = [step * factor % 256 for step in range(256) for factor in (83, 151, 199)]


def show(*pictures: Pixels, height: int = 256) -> Any:
    """Show pictures side by side in a notebook, as one JPEG."""
    from IPython.display import Image as DisplayImage  # noqa: PLC0415  notebooks only

    scaled = [
        cv2.resize(
            picture,
            (picture.shape[1] * height // picture.shape[0], height),
            interpolation=cv2.INTER_LANCZOS4,
        )
        for picture in pictures
    ]
    file = io.BytesIO()
    Image.fromarray(np.hstack(scaled)).save(file, 'JPEG', quality=85)
    return DisplayImage(file.getvalue(), format='jpeg')  # type: ignore[no-untyped-call]


def write_labels(path: Path, labels: Pixels) -> None:
    """Write a label image as palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels, mode='P')
    image.putpalette(PALETTE)
    image.save(path)


def write_frame(path: Path, frame: Pixels) -> None:
    """Write a frame as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(frame).save(path, quality=95)


def write_dataset(
    root: Path, num_clips: int = NUM_CLIPS, *, bright_field: bool = False
) -> None:
    """Write clips, images and their lists below ``root``."""
    names = [f'cells_{seed:03d}' for seed in range(num_clips)]
    for seed, name in enumerate(names):
        frames, labels = draw_clip(seed, bright_field=bright_field)
        for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
            write_frame(root / 'JPEGImages' / name / f'{index:05d}.jpg', frame)
            write_labels(root / 'Annotations' / name / f'{index:05d}.png', label)
        write_frame(root / 'images' / f'{name}.jpg', frames[0])
        write_labels(root / 'labels' / f'{name}.png', labels[0])
    num_val = max(1, round(VAL_SHARE * num_clips))
    (root / 'ImageSets').mkdir(exist_ok=True)
    for folder in (root, root / 'ImageSets'):
        for split, part in (('val', names[:num_val]), ('train', names[num_val:])):
            (folder / f'{split}.txt').write_text('\n'.join(part) + '\n')


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out_dir', type=Path, help='output folder')
    parser.add_argument('--num-clips', type=int, default=NUM_CLIPS)
    parser.add_argument('--bright-field', action='store_true', help='dark on bright')
    options = parser.parse_args()
    write_dataset(options.out_dir, options.num_clips, bright_field=options.bright_field)


if __name__ == '__main__':
    main()
