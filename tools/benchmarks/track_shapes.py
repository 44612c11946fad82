"""Count the id switches of detect and track on generated shapes.

Held-out clips are rendered in memory, so only the weights are needed. The table has a
row for each role that an object plays: the frames on which it is visible and the share
of them on which a track covers it, its id switches (another track covers it than the
last time), frames with a wrong class, and the mean IoU. An object counts from the first
run of the detector on a frame that shows it.

    python tools/dataset_converters/make_shapes.py data/shapes --num-clips 160
    python tools/train.py configs/mmdet/sam2_track_shapes_detector.py
    python tools/train.py configs/mmdet/sam2_track_shapes_sam2.py
    python tools/benchmarks/track_shapes.py \
        work_dirs/sam2_track_shapes_detector/iter_1000.pth \
        work_dirs/sam2_track_shapes_sam2/epoch_6.pth

With --text 'disk . square' only these classes are looked for, and only their objects
count: a track of another object is one of no object.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from projects.sam2.apis import build_sam2
from projects.sam2.bridges.detection.detector import Detector
from projects.sam2.bridges.tracking.association import TrackRules
from projects.sam2.bridges.tracking.detect_and_track import DetectAndTrack
from projects.sam2.datasets.sources.shapes import Role, draw_shapes

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmdet'
COVERS = 0.5  # least IoU of a track and the object that it follows


@dataclass(slots=True, kw_only=True)
class Count:
    """What happened to the objects of a role."""

    objects: int = 0
    frames: int = 0
    tracked: int = 0
    switches: int = 0
    wrong_classes: int = 0
    sum_of_ious: float = 0.0


def track_clip(
    tracker: DetectAndTrack,
    index: int,
    labels_of_text: Sequence[int],
    options: argparse.Namespace,
) -> tuple[dict[Role, Count], int]:
    """Track a held-out clip; the counts, and the number of tracks of no object."""
    clip = draw_shapes(
        'val', index, num_frames=options.num_frames, side=options.size, seed=0
    )
    counts = {role: Count() for role in Role}
    num_objects = len(clip.classes)
    last: list[int | None] = [None] * num_objects
    is_found = np.zeros(num_objects, bool)
    strays, owners = set[int](), set[int]()
    wanted = [obj for obj in range(num_objects) if clip.classes[obj] in labels_of_text]
    for obj in wanted:
        counts[clip.roles[obj]].objects += 1
    for frame_index, tracks in enumerate(tracker.track(clip.frames)):
        labels = clip.labels[frame_index]
        masks = tracks.masks.numpy()
        covering: set[int] = set()
        for obj in wanted:
            truth = labels == obj + 1
            if not truth.any():
                continue
            is_found[obj] |= frame_index % options.every == 0
            if not is_found[obj]:
                continue
            count = counts[clip.roles[obj]]
            count.frames += 1
            union = (masks | truth).sum(axis=(1, 2))
            ious = (masks & truth).sum(axis=(1, 2)) / union
            if not len(ious) or ious.max() < COVERS:
                continue
            row = int(ious.argmax())
            key = tracks.object_ids[row]
            covering.add(key)
            count.tracked += 1
            count.sum_of_ious += float(ious[row])
            count.switches += last[obj] not in {None, key}
            count.wrong_classes += int(tracks.labels[row]) != clip.classes[obj]
            last[obj] = key
        owners |= covering
        strays |= set(tracks.object_ids)
        if options.verbose:
            print(f'  clip {index} frame {frame_index}: {tracks.object_ids} {last}')
    return counts, len(strays - owners)


def main(arguments: Sequence[str] | None = None) -> None:
    """Track the held-out clips and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('detector', help='checkpoint of sam2_track_shapes_detector.py')
    add('sam2', help='checkpoint of sam2_track_shapes_sam2.py')
    add('--num-clips', type=int, default=24, help='held-out clips (default 24)')
    add('--num-frames', type=int, default=16, help='frames of a clip (default 16)')
    add('--size', type=int, default=128, help='longer side in pixels (default 128)')
    add('--every', type=int, default=4, help='frames between detections (default 4)')
    add('--threshold', type=float, default=0.3, help='least score (default 0.3)')
    add('--text', default='', help='classes to look for (default all)')
    add('--rules', type=json.loads, default={}, help='of TrackRules, as JSON')
    add('--json', type=Path, help='write the counts to this file')
    add('--verbose', action='store_true', help='print the ids of each frame')
    options = parser.parse_args(arguments)
    config = CONFIGS / 'sam2_track_shapes_detector.py'
    detector = Detector(config, options.detector, device='cpu')
    tracker = DetectAndTrack(
        build_sam2(CONFIGS / 'sam2_track_shapes_sam2.py', options.sam2, device='cpu'),
        lambda frame: detector.detect(frame, options.text, threshold=options.threshold),
        every=options.every,
        rules=TrackRules(**options.rules),
    )
    _, wanted = detector.read_text(options.text)
    begin = time.perf_counter()
    total = {role: Count() for role in Role}
    num_strays = 0
    for index in range(options.num_clips):
        counts, strays = track_clip(tracker, index, wanted, options)
        num_strays += strays
        for role, count in counts.items():
            for name, value in asdict(count).items():
                setattr(total[role], name, getattr(total[role], name) + value)
    seconds = (time.perf_counter() - begin) / (options.num_clips * options.num_frames)
    print('role        objects  frames  tracked  switches  wrong class  mean IoU')
    for role, count in total.items():
        iou = count.sum_of_ious / max(count.tracked, 1)
        print(
            f'{role.value:<10}  {count.objects:>7}  {count.frames:>6}  '
            f'{count.tracked / max(count.frames, 1):>6.1%}  {count.switches:>8}  '
            f'{count.wrong_classes:>11}  {iou:>8.3f}'
        )
    switches = sum(count.switches for count in total.values())
    print(
        f'{switches} id switches, {num_strays} tracks of no object; '
        f'{seconds:.2f} s a frame'
    )
    if options.json:
        content = {role.value: asdict(count) for role, count in total.items()}
        options.json.write_text(json.dumps(content, indent=2))


if __name__ == '__main__':
    main()
