"""Takes the frames out of video files, each video whole or not at all."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.file_endings import VIDEO_SUFFIX, find_file, scan_folder
from projects.sam2.datasets.frames import VideoFileFrames
from projects.sam2.datasets.limits import REPLACE_FILE
from projects.sam2.datasets.listing import (
    child,
    find_stems,
    list_names,
)
from projects.sam2.datasets.processing.supervised import Beat
from projects.sam2.ops import put_in_place

JPEG_SUFFIX = '.jpg'


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionPlan:
    """How frames are taken out.

    Attributes:
        videos: Folder of the mp4 files, which may lie in sub-folders.
        out: Folder that gets a folder for each video, in the same sub-folders.
        every: Distance between the frames that are taken; they keep their numbers.
        quality: Of the JPEG files, 1 to 100.
    """

    videos: Path
    out: Path
    every: int = 1
    quality: int = 95

    def __post_init__(self) -> None:
        """Check the numbers and that there are videos."""
        if self.every < 1 or not 1 <= self.quality <= 100:
            msg = (
                f'every={self.every}, quality={self.quality}; give a positive number '
                f'and one from 1 to 100'
            )
            raise ValueError(msg)
        if not self.videos.is_dir():
            msg = f'{self.videos} is no folder; give the one that holds the mp4 files'
            raise FileNotFoundError(msg)

    @property
    def aside(self) -> Path:
        """Folder of what is not whole yet, beside ``out`` and never in it."""
        return self.out.with_name(f'.{self.out.name}.unfinished')


def find_mp4(plan: ExtractionPlan, file_list: Path | None) -> list[str]:
    """Name the videos.

    Args:
        plan: Where they are.
        file_list: Text file with one name a line; None for all.

    Returns:
        Paths below ``plan.videos`` without their ending.

    Raises:
        FileNotFoundError: If there is no list, or no video.
        ValueError: If the list names no video that is there.
    """
    find = partial(find_stems, suffixes=(VIDEO_SUFFIX,))
    if file_list is not None:
        return list_names(
            data_root=file_list.parent,
            folder=plan.videos,
            file_list=file_list.name,
            exclude_list=None,
            find=find,
        )
    names = sorted(find(plan.videos))
    if not names:
        msg = f'{plan.videos} holds no {VIDEO_SUFFIX}, nor do its sub-folders'
        raise FileNotFoundError(msg)
    return names


def extract_video(plan: ExtractionPlan, name: str, beat: Beat) -> int:
    """Take the frames out of a video, unless that is done.

    They are written aside; the folder gets its name when it is whole: when as many
    frames were decoded as the header promises, and a file of each is there.

    Args:
        plan: How.
        name: Of the video, see :func:`find_mp4`.
        beat: Called after each frame.

    Returns:
        Number of frames that were written; 0 where they were there.

    Raises:
        ClipDataError: If the video is damaged, or another number of frames is there.
        OSError: If a frame cannot be written.
    """
    video = find_file(child(plan.videos, name), (VIDEO_SUFFIX,))
    header = VideoFileFrames.open(video)
    expected = len(range(0, header.num_frames, plan.every))
    folder = child(plan.out, name)
    if folder.is_dir():
        _check_number(folder, expected, plan)
        return 0
    aside = plan.aside / name
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for index, frame in _chosen_frames(header, plan.every):
            _write_jpeg(aside / f'{index:05d}{JPEG_SUFFIX}', frame, plan.quality)
            beat()
        _check_number(aside, expected, plan)
        folder.parent.mkdir(parents=True, exist_ok=True)
        put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return expected


def remove_leftovers(plan: ExtractionPlan) -> None:
    """Remove what interrupted runs left unfinished, once no run goes on.

    Args:
        plan: How frames were taken out.
    """
    shutil.rmtree(plan.aside, ignore_errors=True)


def _chosen_frames(
    header: VideoFileFrames, every: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode a video from its begin to its end; every n-th frame with its number."""
    capture = cv2.VideoCapture(str(header.path.absolute()), cv2.CAP_FFMPEG)
    num_decoded = 0
    while capture.grab():
        if num_decoded % every == 0:
            done, frame = capture.retrieve()
            if not done:
                break
            yield num_decoded, np.asarray(frame, np.uint8)
        num_decoded += 1
    capture.release()
    if num_decoded != header.num_frames:
        problem = f'holds {num_decoded} frames, its header says {header.num_frames}'
        raise ClipDataError.at(header.path, problem, REPLACE_FILE)


def _write_jpeg(path: Path, frame: NDArray[np.uint8], quality: int) -> None:
    done, encoded = cv2.imencode(
        JPEG_SUFFIX, frame, [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        msg = f'{path}: the frame cannot be encoded'
        raise OSError(msg)
    path.write_bytes(encoded.tobytes())


def _check_number(folder: Path, expected: int, plan: ExtractionPlan) -> None:
    """Compare the number of files with that of the frames."""
    found = sum(entry.name.endswith(JPEG_SUFFIX) for entry in scan_folder(folder))
    if found != expected:
        problem = f'holds {found} frames, expected {expected} with every={plan.every}'
        remedy = 'remove the folder to have the frames taken out again'
        raise ClipDataError.at(folder, problem, remedy)
