"""Writes four short mp4 files."""

import sys
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    """Write them into the folder of the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ('a', 'b', 'c', 'd'):
        codec = cv2.VideoWriter.fourcc(*'mp4v')
        writer = cv2.VideoWriter(str(folder / f'{name}.mp4'), codec, 24, (64, 48))
        for frame in rng.integers(0, 255, (10, 48, 64, 3), dtype=np.uint8):
            writer.write(frame)
        writer.release()


if __name__ == '__main__':
    main()
