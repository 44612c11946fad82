"""Looks into a clip: what it holds, and what is wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.errors import ClipDataError
from projects.sam2.datasets.object_masks import void_note
from projects.sam2.datasets.processing.supervised import Beat
from projects.sam2.datasets.transforms.sampling import ClipSampleFrames
from projects.sam2.structures import FrameMasks, VideoSource
from projects.sam2.structures.epoch_index import EpochIndex

MAX_PROBLEMS = 10  # of a clip that are told one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTask:
    """A clip to be looked into.

    Attributes:
        source: Number of its source.
        name: Of the clip.
        index: Position of the clip in the source's list.
        decode: Decode all frames and masks, not only list its files.
        draw: Draw from the clip as training does.
    """

    source: int
    name: str
    index: int
    decode: bool
    draw: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How training draws from the clips of a data set.

    Attributes:
        dataset: The data set with its pipeline.
        num_epochs: Of the run; None where that is not known.
        seed: Of the run.
    """

    dataset: ClipDataset
    num_epochs: int | None = None
    seed: int = 0

    def problem_of(self, index: int) -> str | None:
        """Draw from a clip as training does, in each epoch that draws differently.

        Args:
            index: Position of the clip.

        Returns:
            Why training cannot use the clip; None where it can.
        """
        samplers = [
            transform
            for transform in self.dataset.pipeline.transforms
            if isinstance(transform, ClipSampleFrames)
        ]
        epochs = {0, *(e for each in samplers for e in each.epochs_of_change)}
        for epoch in sorted(epochs):
            if self.num_epochs is not None and epoch >= self.num_epochs:
                break
            try:
                self.dataset.load_clip(EpochIndex(index, epoch, self.seed))
            except ClipDataError as error:
                begun = f' after {epoch} epochs' if epoch else ''
                return f'training cannot use it{begun}: {error}'
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectReport:
    """An object of a clip.

    Attributes:
        num_frames: Annotated frames that show it.
        mean_area: Share of the frame that it covers, where it is seen.
        is_late: The first annotated frame does not show it.
    """

    num_frames: int
    mean_area: float
    is_late: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipReport:
    """What was found in a clip.

    Attributes:
        num_frames: Frames; 0 where the clip cannot be opened.
        num_annotated: Those with ground truth.
        decoded: Whether it was decoded; what follows is empty otherwise.
        sizes: Heights and widths of its frames.
        objects: Objects that at least one frame shows.
        problems: What is wrong, each with its file.
    """

    num_frames: int = 0
    num_annotated: int = 0
    decoded: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
    objects: tuple[ObjectReport, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Counts over the frames of a clip."""

    sizes: set[tuple[int, int]] = field(default_factory=set)
    areas: dict[int, list[float]] = field(default_factory=dict)
    first_seen: dict[int, int] = field(default_factory=dict)
    messages: dict[str, tuple[str, int]] = field(default_factory=dict)

    def note(self, problem: str) -> None:
        """Note what is wrong: ``<file or frame>: <message>``, or a message alone."""
        message = problem.partition(': ')[2] or problem
        first, count = self.messages.get(message, (problem, 0))
        self.messages[message] = first, count + 1

    @property
    def problems(self) -> tuple[str, ...]:
        """Each message once, with the first file or frame that it is about."""
        told = [
            f'{first} (and on {count - 1} more frames)' if count > 1 else first
            for first, count in self.messages.values()
        ]
        return shorten(told)

    def add(self, frame_index: int, masks: FrameMasks) -> None:
        """Count the objects of a frame."""
        if len(set(masks.object_ids)) < len(masks.object_ids):
            self.note(f'frame {frame_index}: has an object id twice')
        shares = masks.masks.mean(axis=(1, 2)).tolist()
        for object_id, share in zip(masks.object_ids, shares, strict=True):
            if share > 0:
                self.first_seen.setdefault(object_id, frame_index)
                self.areas.setdefault(object_id, []).append(share)

    def objects(self, first_annotated: int) -> tuple[ObjectReport, ...]:
        """One report for each object."""
        return tuple(
            ObjectReport(
                num_frames=len(areas),
                mean_area=float(np.mean(areas)),
                is_late=self.first_seen[object_id] > first_annotated,
            )
            for object_id, areas in self.areas.items()
        )


def check_clip(
    dataset: ClipDataset,
    name: str,
    *,
    decode: bool,
    beat: Beat,
    draws: Sequence[Callable[[], str | None]] = (),
) -> ClipReport:
    """Look into a clip.

    Args:
        dataset: Its source.
        name: Of the clip.
        decode: Decode every frame and every mask; otherwise only open the clip.
        beat: Called after each frame and each draw.
        draws: Draw from the clip as training does, and say what is wrong.

    Returns:
        What was found. What cannot be read or drawn is among its problems.
    """
    try:
        video = dataset.open_video(name)
        annotated = video.annotated_frames()
    except ClipDataError as error:
        return ClipReport(problems=(str(error),))
    tally = _Tally()
    if not annotated:
        tally.note('has no annotated frame')
    if decode:
        _decode(video, frozenset(annotated), tally, beat)
    if decode and annotated and not tally.areas and not tally.messages:
        tally.note(f'shows no object on any frame{void_note(video)}')
    if len(tally.sizes) > 1:
        tally.note(f'has frames of the sizes {sorted(tally.sizes)}')
    if annotated and (tally.areas or not decode):  # else it is plain that none can be
        _draw(draws, tally, beat)
    return ClipReport(
        num_frames=video.num_frames,
        num_annotated=len(annotated),
        decoded=decode,
        sizes=tuple(sorted(tally.sizes)),
        objects=tally.objects(annotated[0]) if annotated else (),
        problems=tally.problems,
    )


def _draw(draws: Sequence[Callable[[], str | None]], tally: _Tally, beat: Beat) -> None:
    """Draw from a clip; what its files were blamed for already is not told again."""
    for draw in draws:
        problem = draw()
        known = tuple(f': {message}' for message in tally.messages)
        if problem and not problem.endswith(known):
            tally.note(problem)
        beat()


def _decode(
    video: VideoSource, annotated: frozenset[int], tally: _Tally, beat: Beat
) -> None:
    """Decode all frames and masks; one that fails does not keep others from it."""
    for index in range(video.num_frames):
        try:
            frame = video.read_frame(index)
            tally.sizes.add((frame.shape[0], frame.shape[1]))
            masks = video.read_masks(index) if index in annotated else None
        except ClipDataError as error:
            tally.note(str(error))
        else:
            if masks is not None:
                tally.add(index, masks)
                _compare_sizes(index, frame.shape[:2], masks, tally)
        beat()


def _compare_sizes(
    index: int, size: tuple[int, ...], masks: FrameMasks, tally: _Tally
) -> None:
    found = masks.masks.shape[1:]
    if found != size:
        tally.note(f'frame {index}: is {size}, its masks are {found}')


def shorten(problems: list[str]) -> tuple[str, ...]:
    """Keep a list of problems readable.

    Args:
        problems: All of a clip.

    Returns:
        The first ten, and how many more there are.
    """
    surplus = len(problems) - MAX_PROBLEMS
    if surplus <= 0:
        return tuple(problems)
    return (*problems[:MAX_PROBLEMS], f'and {surplus} more like these')
