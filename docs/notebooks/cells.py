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

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

SIDE = 128  # pixels
CHANNELS = ((60, 235, 110), (235, 70, 200), (70, 170, 255), (250, 200, 60))  # RGB
NUM_CLIPS, NUM_FRAMES = 12, 16
VAL_SHARE = 0.2
PALETTE = [step * factor % 256 for step in range(256) for factor in (83, 151, 199)]


def scattered(rng: np.random.Generator, num_points: int, margin: float) -> Points:
    """Draw points (N, 2) in the frame, far enough from each other for cells."""
    while True:
        points = rng.uniform(margin, SIDE - margin, (num_points, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
        if gaps[~np.eye(num_points, dtype=bool)].min() > 30:
            return points


def draw_clip(
    seed: int, num_frames: int = NUM_FRAMES, *, bright_field: bool = False
) -> tuple[Pixels, Pixels]:
    """Draw cells that drift, change their shape and pass over each other.

    Args:
        seed: The same seed gives the same clip.
        bright_field: Dark cells on a bright ground, as without fluorescence.

    Returns:
        Frames (T, side, side, 3) as uint8, RGB, and labels (T, side, side) as uint8:
        1, 2, … for the cells, 0 for the background.
    """
    rng = np.random.default_rng((seed, bright_field))
    num_cells = int(rng.integers(3, 6))
    start = scattered(rng, num_cells, margin=18)
    goal = scattered(rng, num_cells, margin=8)
    radius = rng.uniform(9, 16, num_cells)
    waves = rng.normal(0, 0.08, (num_cells, 2, 3))  # of the outline, at start and goal
    phases = rng.uniform(0, 2 * np.pi, (num_cells, 3))
    colours = np.array(CHANNELS)[rng.integers(len(CHANNELS), size=num_cells)]
    gain = rng.uniform(0.6, 1.0, num_cells)
    glow = cv2.resize(rng.uniform(5, 45, (4, 4)).astype('float32'), (SIDE, SIDE))
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    frames, labels = [], []
    for time in np.linspace(0, 1, num_frames):
        image = np.repeat(glow[:, :, None], 3, axis=2)
        label = np.zeros((SIDE, SIDE), np.uint8)
        for cell in range(num_cells):
            mix = (1 - time) * waves[cell, 0] + time * waves[cell, 1]
            bumps = sum(
                amplitude * np.sin((wave + 2) * angles + phase + 2 * time)
                for wave, (amplitude, phase) in enumerate(
                    zip(mix, phases[cell], strict=True)
                )
            )
            outline = radius[cell] * (1 + bumps)
            centre = (1 - time) * start[cell] + time * goal[cell]
            points = centre + np.stack(
                (outline * np.cos(angles), outline * np.sin(angles)), axis=1
            )
            mask = np.zeros((SIDE, SIDE), np.uint8)
            cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
            label[mask > 0] = cell + 1
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / radius[cell]
            light = gain[cell] * (0.55 + 0.45 * np.clip(depth, 0, 1))
            image[mask > 0] = (light[..., None] * colours[cell])[mask > 0]
        if bright_field:
            grey = image.mean(axis=2, keepdims=True)
            image = np.repeat(215 - 0.8 * grey, 3, axis=2)
        image = cv2.GaussianBlur(image, (3, 3), 0) + rng.normal(0, 6, image.shape)
        frames.append(image.clip(0, 255).astype(np.uint8))
        labels.append(label)
    return np.stack(frames), np.stack(labels)


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
