"""Write generated shapes in the layouts of detection, segmentation and tracking.

    images/<clip>/00000.jpg
    instances_<split>.json       COCO, each frame an image; as mmdetection reads videos,
                                 too: video_id, frame_id, instance_id
    youtube_vis_<split>.json     YouTube-VIS
    labels/<clip>/00000.png      class of each pixel plus one, 0 for the background
    frames_<split>.txt           frames as <clip>/00000, as mmsegmentation lists them
    objects/<clip>/00000.png     object ids with DAVIS's palette
    ImageSets/<split>.txt        names of the clips
    mot/<split>/<clip>/          MOT17: img1/000001.jpg, gt/gt.txt, seqinfo.ini
    mot/annotations/<split>_cocoformat.json  the same, as mmdetection reads it
    meta.json                    settings, classes, and the role of each object

MOT17 scores pedestrians alone; all objects are pedestrians in ``mot``.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...ops import encode_masks
from ..io.images import write_jpeg
from ..io.listing import write_list
from ..sources.shapes import CLASSES, ShapesClip, check_extent, draw_shapes
from .davis_export import begin_dataset, finish_dataset, is_complete, write_mask
from .worker_pool import Advance

QUALITY = 85  # of JPEG
CATEGORIES = [{'id': i, 'name': name} for i, name in enumerate(CLASSES, start=1)]
PEDESTRIAN = 1  # MOT17's category of the objects that count
FRAME_RATE = 8  # frames per second, of seqinfo.ini
Entry = dict[str, Any]  # of a JSON file


def write_shapes(
    root: Path,
    num_clips: Mapping[str, int],
    *,
    num_frames: int,
    side: int,
    seed: int,
    advance: Advance,
) -> bool:
    """Write a dataset, or nothing if the folder holds the same one.

    Args:
        root: New folder.
        num_clips: Number of clips by split.
        num_frames: Frames of each clip.
        side: Longer side of the frames, pixels.
        seed: Seed of all clips.
        advance: Called after each clip.

    Returns:
        Whether it was written.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If there are too few frames or pixels.
    """
    settings: Entry = {
        'num_clips': dict(num_clips),
        'num_frames': num_frames,
        'side': side,
        'seed': seed,
    }
    if is_complete(root, settings):
        return False
    clips: dict[str, list[Entry]] = {}
    num_done, num_total = 0, sum(num_clips.values())
    check_extent(num_frames, side)
    begin_dataset(root, settings)
    for split, count in num_clips.items():
        tables = _Tables()
        clips[split] = []
        for index in range(count):
            clip = draw_shapes(
                split, index, num_frames=num_frames, side=side, seed=seed
            )
            _write_images(root, clip)
            _write_mot_sequence(root / 'mot' / split / clip.name, root, clip)
            tables.add(clip)
            clips[split].append(_describe(clip))
            num_done += 1
            advance(num_done, num_total)
        tables.write(root, split)
    names = {split: [clip['name'] for clip in each] for split, each in clips.items()}
    meta = {'settings': settings, 'classes': CLASSES, 'clips': clips}
    finish_dataset(root, names, meta)
    return True


def _describe(clip: ShapesClip) -> Entry:
    classes = [CLASSES[index] for index in clip.classes]
    roles = [role.value for role in clip.roles]
    return {'name': clip.name, 'classes': classes, 'roles': roles}


def _write_images(folder: Path, clip: ShapesClip) -> None:
    """Write frames, class maps and object ids."""
    images, labels, objects = (
        folder / kind / clip.name for kind in ('images', 'labels', 'objects')
    )
    for path in (images, labels, objects):
        path.mkdir(parents=True, exist_ok=True)
    class_maps = clip.class_maps()
    for index, frame in enumerate(clip.frames):
        write_jpeg(images / f'{index:05d}.jpg', frame, QUALITY)
        Image.fromarray(class_maps[index]).save(labels / f'{index:05d}.png')
        write_mask(objects / f'{index:05d}.png', clip.labels[index])


def _write_mot_sequence(sequence: Path, folder: Path, clip: ShapesClip) -> None:
    """Write a clip as a sequence of MOT17."""
    for name in ('img1', 'gt'):
        (sequence / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(len(clip.frames)):
        image = folder / 'images' / clip.name / f'{index:05d}.jpg'
        shutil.copyfile(image, sequence / 'img1' / f'{index + 1:06d}.jpg')
        for object_id, mask in _visible_masks(clip, index).items():
            box = ','.join(map(str, box_of(mask)))
            visibility = clip.visibility[index, object_id - 1]
            lines.append(
                f'{index + 1},{object_id},{box},1,{PEDESTRIAN},{visibility:.3f}\n'
            )
    (sequence / 'gt' / 'gt.txt').write_text(''.join(lines), encoding='utf-8')
    num_frames, height, width = clip.labels.shape
    (sequence / 'seqinfo.ini').write_text(
        f'[Sequence]\nname={clip.name}\nimDir=img1\nframeRate={FRAME_RATE}\n'
        f'seqLength={num_frames}\nimWidth={width}\nimHeight={height}\nimExt=.jpg\n',
        encoding='utf-8',
    )


def _visible_masks(clip: ShapesClip, frame_index: int) -> dict[int, NDArray[np.bool_]]:
    """Masks of the objects that are visible on a frame, by their ids."""
    labels = clip.labels[frame_index]
    return {int(i): labels == i for i in np.unique(labels) if i}


@dataclass
class _Tables:
    """The JSON files of a split, as they grow; ids begin with 1."""

    videos: list[Entry] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    images: list[Entry] = field(default_factory=list)
    instances: list[Entry] = field(default_factory=list)
    mot_images: list[Entry] = field(default_factory=list)
    tracks: list[Entry] = field(default_factory=list)

    def add(self, clip: ShapesClip) -> None:
        """Add a clip."""
        num_frames, height, width = clip.labels.shape
        size = {'height': height, 'width': width}
        video_id = len(self.videos) + 1
        stems = [f'{clip.name}/{index:05d}' for index in range(num_frames)]
        self.frames += stems
        self.videos.append(
            {
                'id': video_id,
                'name': clip.name,
                **size,
                'length': num_frames,
                'file_names': [f'{stem}.jpg' for stem in stems],
            }
        )
        first_track = len(self.tracks) + 1
        self.tracks += [
            {
                'id': first_track + index,
                'video_id': video_id,
                'category_id': class_index + 1,
                'iscrowd': 0,
                **size,
                'length': num_frames,
                'segmentations': [None] * num_frames,
                'bboxes': [None] * num_frames,
                'areas': [None] * num_frames,
            }
            for index, class_index in enumerate(clip.classes)
        ]
        for index in range(num_frames):
            image = {
                'id': len(self.images) + 1,
                'file_name': f'{stems[index]}.jpg',
                **size,
                'video_id': video_id,
                'frame_id': index,
            }
            mot_name = f'{clip.name}/img1/{index + 1:06d}.jpg'
            self.images.append(image)
            self.mot_images.append(
                {**image, 'file_name': mot_name, 'mot_frame_id': index + 1}
            )
            for object_id, mask in _visible_masks(clip, index).items():
                track = self.tracks[first_track + object_id - 2]
                self._add_instance(image, track, mask)
                visibility = float(clip.visibility[index, object_id - 1])
                self.instances[-1]['visibility'] = round(visibility, 3)

    def _add_instance(
        self, image: Entry, track: Entry, mask: NDArray[np.bool_]
    ) -> None:
        box, area = box_of(mask), int(mask.sum())
        index = image['frame_id']
        track['segmentations'][index] = encode_masks(mask[None])[0]
        track['bboxes'][index], track['areas'][index] = box, area
        self.instances.append(
            {
                'id': len(self.instances) + 1,
                'image_id': image['id'],
                'video_id': image['video_id'],
                'instance_id': track['id'],
                'category_id': track['category_id'],
                'iscrowd': 0,
                'bbox': box,
                'area': area,
                'segmentation': mask_polygons(mask),
                'mot_conf': 1.0,
            }
        )

    def write(self, folder: Path, split: str) -> None:
        """Write the files."""
        common = {'videos': self.videos, 'categories': CATEGORIES}
        pedestrian = [{'id': PEDESTRIAN, 'name': 'pedestrian'}]
        contents: dict[str, Entry] = {
            f'instances_{split}.json': {
                **common,
                'images': self.images,
                'annotations': self.instances,
            },
            f'youtube_vis_{split}.json': {**common, 'annotations': self.tracks},
            f'mot/annotations/{split}_cocoformat.json': {
                'videos': self.videos,
                'categories': pedestrian,
                'images': self.mot_images,
                'annotations': [
                    {**instance, 'category_id': PEDESTRIAN, 'segmentation': []}
                    for instance in self.instances
                ],
            },
        }
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content), encoding='utf-8')
        write_list(folder / f'frames_{split}.txt', self.frames)


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Smallest box around a mask (H, W) that is not empty: x, y, width, height."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [int(x), int(y), int(width), int(height)]


def mask_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Outline a mask by polygons that COCO's tools decode to the same mask.

    Args:
        mask: (H, W).

    Returns:
        Polygons as x, y, x, y, … in pixels; a mask with a hole is cut at the hole.
    """
    # OpenCV's contours join the middles of pixels. At twice the size they lie a quarter
    # of a pixel within the true edge, which decodes to the same pixels.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    contours, hierarchy = cv2.findContours(
        doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    parents = np.asarray(hierarchy).reshape(-1, 4)[:, 3]
    if (parents >= 0).any():
        hole = np.asarray(contours[int((parents >= 0).argmax())])
        middle = int(hole[:, 0, 0].mean()) // 2
        left, right = mask.copy(), mask.copy()
        left[:, middle:] = False
        right[:, :middle] = False
        return mask_polygons(left) + mask_polygons(right)
    return [((np.asarray(c) + 0.5) / 2).reshape(-1).tolist() for c in contours]
