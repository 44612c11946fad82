"""Split clips or images into training and validation so that no video is in both."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..io.errors import ClipDataError
from ..io.images import read_frame

Thumbnail = NDArray[np.float32]
SIDE = 32  # of a thumbnail in pixels
NUM_PAIRS = 12  # of images that are compared
MIN_FRAMES = 6  # images of a group that are enough to call it a video
# Neighbours of a video differ by less than this times what distant frames differ by.
ALIKE = 0.7
NUM_GROUPS = 6  # that are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Names for training and for validation.

    Attributes:
        train: Sorted names.
        val: Sorted names.
        how: What was done, for a reader.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    how: str


def split_images(
    names: Sequence[str],
    share: float,
    seed: int,
    read: Callable[[str], Thumbnail | None],
    sizes: Mapping[str, object],
) -> Split:
    """Split images; the frames of one video stay together.

    Images are taken for frames of a video if they have one size, their names differ
    only in a number, and neighbours look alike. Whole videos are held out; of a single
    video, its end.

    Args:
        share: Of the validation, between 0 and 1.
        read: Returns the thumbnail of an image, None if it cannot be read.
        sizes: Sizes of the images, where they are known.

    Raises:
        ValueError: If there are fewer than two images.
    """
    groups: dict[object, list[str]] = {}
    for name in sorted(names, key=_numbered):
        groups.setdefault((_series(name), sizes.get(name)), []).append(name)
    long_groups = [group for group in groups.values() if len(group) >= MIN_FRAMES]
    order = np.random.default_rng(seed).permutation(len(long_groups))[:NUM_GROUPS]
    votes = [
        are_video_frames(lambda i, g=group: read(g[i]), len(group))  # type: ignore[misc]
        for group in (long_groups[i] for i in order.tolist())
    ]
    if not votes or sum(votes) * 2 <= len(votes):
        return split_groups([[name] for name in names], share, seed)
    if len(groups) == 1:
        (frames,) = groups.values()
        num_val = _num_val(len(frames), share)
        return Split(
            train=tuple(sorted(frames[:-num_val])),
            val=tuple(sorted(frames[-num_val:])),
            how='the images look like frames of one video: its end is held out',
        )
    split = split_groups(list(groups.values()), share, seed)
    how = (
        f'the images look like frames of {len(groups)} videos: whole ones are held out'
    )
    return Split(train=split.train, val=split.val, how=how)


def split_clips(names: Sequence[str], share: float, seed: int) -> Split:
    """Split clips; the parts of a clip that was split by objects stay together.

    Raises:
        ValueError: If there are fewer than two clips.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r'_part\d+$', '', name), []).append(name)
    return split_groups(list(groups.values()), share, seed)


def split_groups(groups: Sequence[Sequence[str]], share: float, seed: int) -> Split:
    """Hold out random groups, at least one, until they hold a share of the names.

    Raises:
        ValueError: If there are fewer than two groups, or ``share`` is not between 0
            and 1.
    """
    num_names = sum(map(len, groups))
    if len(groups) < 2:
        msg = f'{num_names} clips or images cannot be split; give at least 2'
        raise ValueError(msg)
    target = _num_val(num_names, share)
    ordered = sorted(map(sorted, groups))
    shuffled = np.random.default_rng(seed).permutation(len(ordered)).tolist()
    val: list[str] = []
    held = set()
    for index in shuffled[:-1]:
        group = ordered[index]
        if len(val) < target and (not val or len(val) + len(group) <= 1.5 * target):
            val += group
            held.add(index)
    train = [n for i, group in enumerate(ordered) if i not in held for n in group]
    return Split(
        train=tuple(sorted(train)),
        val=tuple(sorted(val)),
        how=f'at random, seed {seed}',
    )


def split_frames(annotated: Sequence[int], share: float) -> int:
    """Choose the frame from which on a single video validates.

    Args:
        annotated: Its annotated frames, ascending.
        share: Of the annotated frames that validate.

    Returns:
        A frame; at least two annotated ones are not before it, and one is.

    Raises:
        ValueError: If there are fewer than three annotated frames.
    """
    if len(annotated) < 3:
        msg = (
            f'one clip with {len(annotated)} annotated frames cannot be split; '
            f'annotate at least 3 frames, or a second clip'
        )
        raise ValueError(msg)
    # The first frame of the validation gives the prompt.
    num_val = min(max(2, _num_val(len(annotated), share)), len(annotated) - 1)
    return annotated[-num_val]


def _num_val(total: int, share: float) -> int:
    if not 0 < share < 1:
        msg = f'the share of the validation is {share}; give a number between 0 and 1'
        raise ValueError(msg)
    return min(max(1, round(share * total)), total - 1)


def are_video_frames(read: Callable[[int], Thumbnail | None], num_images: int) -> bool:
    """Whether neighbouring images look more alike than distant ones.

    Args:
        read: Returns the thumbnail of an image by its position.
    """
    if num_images < MIN_FRAMES:
        return False
    last = num_images - 2
    firsts = np.unique(np.linspace(0, last, NUM_PAIRS).round().astype(int)).tolist()
    half = num_images // 2
    near, far = [], []
    for first in firsts:
        images = [read(i) for i in (first, first + 1, (first + half) % num_images)]
        if all(image is not None and image.shape == (SIDE, SIDE) for image in images):
            image, neighbour, distant = images
            near.append(float(np.abs(image - neighbour).mean()))  # type: ignore[operator]
            far.append(float(np.abs(image - distant).mean()))  # type: ignore[operator]
    return bool(near) and float(np.median(near)) < ALIKE * float(np.median(far))


def read_thumbnail(path: Path) -> Thumbnail | None:
    """Read a small grey picture of an image; None if it cannot be read."""
    try:
        return thumbnail(read_frame(path))
    except ClipDataError:
        return None


def thumbnail(frame: NDArray[np.uint8]) -> Thumbnail:
    """A grey picture of 32 x 32 pixels with a mean of 0 and a deviation of 1."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32)
    normalised: Thumbnail = (values - values.mean()) / max(1.0, float(values.std()))
    return normalised


def _series(name: str) -> str:
    """A name without its last number."""
    return re.sub(r'\d+(?=\D*$)', '', name)


def _numbered(name: str) -> tuple[str, int, str]:
    numbers = re.findall(r'\d+', name)
    return _series(name), int(numbers[-1]) if numbers else 0, name
