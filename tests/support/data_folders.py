"""Writes small data sets in the layouts that the sources read."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from projects.sam2.ops import encode_masks

SIZE = (24, 32)
NUM_FRAMES = 12


def object_masks(time: int) -> NDArray[np.bool_]:
    """Two squares that move: (2, height, width)."""
    masks = np.zeros((2, *SIZE), bool)
    masks[0, 12:22, 20 - time : 30 - time] = True
    masks[1, 2:10, 2 + time : 12 + time] = True
    return masks


def write_image(path: Path, seed: int = 0) -> None:
    """Write a smooth picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, SIZE[::-1]))


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def rle(time: int) -> list[dict[str, Any]]:
    """The masks, run-length encoded."""
    return [dict(code) for code in encode_masks(object_masks(time))]


def write_frames(root: Path, name: str = 'ant') -> None:
    """Write the frames of a video."""
    for time in range(NUM_FRAMES):
        write_image(root / name / f'{time:05d}.jpg', time)


def write_object_folders(root: Path) -> None:
    """Layout of SA-V's validation set."""
    write_frames(root / 'JPEGImages_24fps')
    for time in range(0, NUM_FRAMES, 4):
        for number, mask in enumerate(object_masks(time)):
            folder = root / 'Annotations_6fps' / 'ant' / f'{number:03d}'
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8)).save(folder / f'{time:05d}.png')


def write_sav(root: Path, every: int = 4) -> None:
    """Layout of SA-V's training set, manual and auto, with an mp4."""
    write_video(root / 'ant.mp4')
    for kind in ('manual', 'auto'):
        frames = [rle(time) for time in range(0, NUM_FRAMES, every)]
        write_json(root / f'ant_{kind}.json', {'video_id': 'ant', 'masklet': frames})


def write_video(path: Path) -> None:
    """Write the frames as an mp4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 24, SIZE[::-1])
    for time in range(NUM_FRAMES):
        writer.write(np.full((*SIZE, 3), 9 * time, np.uint8))
    writer.release()


def write_sa1b(root: Path) -> None:
    """Layout of SA-1B."""
    write_image(root / 'ant.jpg')
    annotations = [
        {'id': n, 'segmentation': code, 'stability_score': 0.99, 'predicted_iou': 0.9}
        for n, code in enumerate(rle(0))
    ]
    write_json(root / 'ant.json', {'image': {}, 'annotations': annotations})


def coco_content() -> dict[str, Any]:
    """One image: a polygon, run lengths, and a crowd."""
    image = {'id': 1, 'file_name': 'ant.jpg', 'height': SIZE[0], 'width': SIZE[1]}
    square = [[20, 12, 30, 12, 30, 22, 20, 22]]
    crowd = np.zeros((1, *SIZE), bool)
    crowd[0, :, 28:] = True
    codes = [square, rle(0)[1], dict(encode_masks(crowd)[0])]
    annotations = [
        {'id': 5 + n, 'image_id': 1, 'segmentation': code, 'iscrowd': int(n == 2)}
        for n, code in enumerate(codes)
    ]
    return {'images': [image], 'annotations': annotations}


def write_coco(root: Path, folder: str = 'train2017') -> None:
    """Layout of COCO."""
    write_image(root / folder / 'ant.jpg')
    write_json(root / 'annotations' / f'instances_{folder}.json', coco_content())


def youtube_vis_content() -> dict[str, Any]:
    """One video; its first object is not seen on the first frame."""
    times = range(NUM_FRAMES)
    videos = [{'id': 3, 'file_names': [f'ant/{time:05d}.jpg' for time in times]}]
    annotations = [
        {
            'id': 5 + n,
            'video_id': 3,
            'segmentations': [None if time < 1 - n else rle(time)[n] for time in times],
        }
        for n in range(2)
    ]
    return {'videos': videos, 'annotations': annotations}


def write_youtube_vis(root: Path) -> None:
    """Layout of YouTube-VIS."""
    write_frames(root / 'JPEGImages')
    write_json(root / 'train.json', youtube_vis_content())


def write_label_images(root: Path) -> None:
    """Images and labels beside each other."""
    write_image(root / 'images' / 'ant.jpg')
    (root / 'labels').mkdir(parents=True, exist_ok=True)
    first, second = object_masks(0)
    labels = (first * 1 + second * 2).astype(np.uint8)
    Image.fromarray(labels).save(root / 'labels' / 'ant.png')


def labelme_content() -> dict[str, Any]:
    """A rectangle and a polygon."""
    shapes = [
        {'label': 'cat', 'shape_type': 'rectangle', 'points': [[20, 12], [30, 22]]},
        {
            'label': 'dog',
            'shape_type': 'polygon',
            'points': [[2, 2], [12, 2], [12, 10], [2, 10]],
        },
    ]
    return {'imageHeight': SIZE[0], 'imageWidth': SIZE[1], 'shapes': shapes}


def write_labelme(root: Path) -> None:
    """JSON files beside images."""
    write_image(root / 'ant.jpg')
    write_json(root / 'ant.json', labelme_content())


def write_png(path: Path, labels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write a grey PNG, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def write_maps(folder: Path, frames: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write label images by the stem of the frame."""
    for stem, labels in frames.items():
        write_png(folder / f'{stem}.png', labels)


def write_objects(folder: Path, frames: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write the same masks with a folder for each object."""
    for stem, labels in frames.items():
        for label in np.unique(labels[labels > 0]).tolist():
            mask = np.where(labels == label, np.uint8(255), np.uint8(0))
            write_png(folder / f'{label:03}' / f'{stem}.png', mask)


def square_maps(number: int = 5, objects: int = 2) -> dict[str, NDArray[np.uint8]]:
    """Frames on which squares move to the right."""
    frames = {}
    for index in range(number):
        labels = np.zeros((48, 64), np.uint8)
        for label in range(1, objects + 1):
            top, left = 14 * label - 10, 5 + 6 * index
            labels[top : top + 10, left : left + 12] = label
        frames[f'{index:05}'] = labels
    return frames
