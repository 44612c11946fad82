"""Generated clips of fluorescent cells, for examples: the small model knows them."""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]

SIDE = 128  # all lengths below are in pixels of a frame of this side
CHANNELS = ((60, 235, 110), (235, 70, 200), (70, 170, 255), (250, 200, 60))  # RGB
NUM_CORNERS = 60  # of an outline


def draw_clip(
    seed: int, num_frames: int = 16, *, side: int = SIDE, bright_field: bool = False
) -> tuple[Pixels, Pixels]:
    """Draw cells that drift, change their shape and pass over each other.

    Args:
        seed: The same seed gives the same clip.
        num_frames: Number of frames; motion is faster in shorter clips.
        side: Height and width of the frames in pixels.
        bright_field: Dark cells on a bright ground, as without fluorescence.

    Returns:
        Frames (T, side, side, 3) as uint8, RGB, and labels (T, side, side) as uint8:
        1, 2, … for the cells, 0 for the background.
    """
    rng = np.random.default_rng((seed, bright_field))
    scale = side / SIDE
    num_cells = int(rng.integers(3, 6))
    start = scattered(rng, num_cells, margin=18)
    goal = scattered(rng, num_cells, margin=8)
    radius = rng.uniform(9, 16, num_cells)
    waves = rng.normal(0, 0.08, (num_cells, 2, 3))  # of the outline, at start and goal
    phases = rng.uniform(0, 2 * np.pi, (num_cells, 3))
    colors = np.array(CHANNELS)[rng.integers(len(CHANNELS), size=num_cells)]
    gain = rng.uniform(0.6, 1.0, num_cells)
    glow = cv2.resize(rng.uniform(5, 45, (4, 4)).astype('float32'), (side, side))
    angles = np.linspace(0, 2 * np.pi, NUM_CORNERS, endpoint=False)
    frames, labels = [], []
    for time in np.linspace(0, 1, num_frames):
        image = np.repeat(glow[:, :, None], 3, axis=2)
        label = np.zeros((side, side), np.uint8)
        for cell in range(num_cells):
            mix = (1 - time) * waves[cell, 0] + time * waves[cell, 1]
            bumps = sum(
                amplitude * np.sin((wave + 2) * angles + phase + 2 * time)
                for wave, (amplitude, phase) in enumerate(
                    zip(mix, phases[cell], strict=True)
                )
            )
            outline = radius[cell] * (1 + bumps)
            center = (1 - time) * start[cell] + time * goal[cell]
            points = scale * (
                center
                + np.stack((outline * np.cos(angles), outline * np.sin(angles)), axis=1)
            )
            mask = np.zeros((side, side), np.uint8)
            cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
            label[mask > 0] = cell + 1
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / (scale * radius[cell])
            light = gain[cell] * (0.55 + 0.45 * np.clip(depth, 0, 1))
            image[mask > 0] = (light[..., None] * colors[cell])[mask > 0]
        if bright_field:
            grey = image.mean(axis=2, keepdims=True)
            image = np.repeat(215 - 0.8 * grey, 3, axis=2)
        image = cv2.GaussianBlur(image, (3, 3), 0) + rng.normal(0, 6, image.shape)
        frames.append(image.clip(0, 255).astype(np.uint8))
        labels.append(label)
    return np.stack(frames), np.stack(labels)


def scattered(rng: np.random.Generator, num_points: int, margin: float) -> Points:
    """Draw points (N, 2) in the frame, far enough from each other for cells."""
    while True:
        points = rng.uniform(margin, SIDE - margin, (num_points, 2))
        gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
        if gaps[~np.eye(num_points, dtype=bool)].min() > 30:
            return points
