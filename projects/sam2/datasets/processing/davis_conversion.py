"""Converts a source of any kind to DAVIS layout."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mmengine.registry import DATASETS

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.listing import write_list
from projects.sam2.datasets.processing.davis_writing import (
    DavisClip,
    DavisFolder,
    davis_name,
    whole_name,
    write_davis,
)
from projects.sam2.datasets.processing.sources import DatasetConfig
from projects.sam2.datasets.processing.statistics import ClipProblem
from projects.sam2.datasets.processing.supervised import Beat, run_supervised
from projects.sam2.datasets.synthetic.writing import (
    META_FILE,
    UNFINISHED_FILE,
    check_folder,
)
from projects.sam2.ops import write_whole

FRAME_SECONDS = 120.0  # after which a clip counts as one that hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What a conversion gave.

    Attributes:
        clips: The clips in the order of their list; empty where all was there before.
        problems: Why clips are missing.
    """

    clips: tuple[DavisClip, ...] = ()
    problems: tuple[ClipProblem, ...] = ()


def convert_to_davis(
    config: DatasetConfig,
    folder: DavisFolder,
    *,
    split: str,
    num_workers: int,
    advance: Callable[[int, int], None],
) -> Conversion | None:
    """Write all clips, then their list, then ``meta.json``, which marks the end.

    A conversion that was interrupted goes on where it was. Clips that cannot be
    converted are left out; once they are mended, remove ``meta.json``'s folder and
    convert again.

    Args:
        config: Of the source.
        folder: Where to.
        split: Name of the list.
        num_workers: Processes.
        advance: Called after each clip with what is done and what there is.

    Returns:
        What was written; None where the folder holds it already.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If two clips would get one name, or none can be converted.
    """
    settings = _settings(config, folder, split)
    if check_folder(folder.root, settings):
        return None
    dataset: ClipDataset = DATASETS.build(config)
    names = dataset.list_videos()
    _refuse_doubles(names, folder)
    folder.aside.mkdir(parents=True, exist_ok=True)
    marker = folder.root / UNFINISHED_FILE
    marker.write_text(json.dumps(settings), encoding='utf-8')
    done: dict[str, tuple[DavisClip, ...]] = {}
    problems: dict[str, str] = {}
    for outcome in run_supervised(
        names,
        partial(_convert, dataset, folder),
        num_workers=num_workers,
        time_limit=FRAME_SECONDS,
    ):
        if outcome.result is None:
            problems[outcome.task] = str(outcome.problem)
        else:
            done[outcome.task] = outcome.result
        advance(len(done) + len(problems), len(names))
    conversion = Conversion(
        clips=tuple(clip for name in names for clip in done.get(name, ())),
        problems=tuple(
            ClipProblem(clip=name, problem=problems[name])
            for name in names
            if name in problems
        ),
    )
    if not conversion.clips:
        first = conversion.problems[0]
        msg = f'None of {len(names)} clips can be converted; {first.problem}'
        raise ValueError(msg)
    _finish(conversion, folder, settings, split)
    return conversion


def _convert(
    dataset: ClipDataset, folder: DavisFolder, name: str, beat: Beat
) -> tuple[DavisClip, ...]:
    return write_davis(dataset.open_video(name), folder, beat)


def _settings(config: DatasetConfig, folder: DavisFolder, split: str) -> dict[str, Any]:
    """What the clips are made with, in values of JSON."""
    settings = {
        'source': config,
        'split': split,
        'split_objects': folder.split_objects,
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return plain


def _refuse_doubles(names: list[str], folder: DavisFolder) -> None:
    """Refuse clips that would be written into one folder."""
    owner: dict[str, str] = {}
    for name in names:
        written = davis_name(name)
        if written in owner:
            msg = (
                f'{owner[written]} and {name} would both be written as {written}; '
                f'list each clip once, or rename one'
            )
            raise ValueError(msg)
        owner[written] = name
    for written, name in owner.items() if folder.split_objects else ():
        whole = whole_name(written)
        if whole in owner:
            msg = (
                f'{name} would be written as {written}, which may become a part of '
                f'{owner[whole]}; rename one, or convert them apart'
            )
            raise ValueError(msg)


def _finish(
    conversion: Conversion, folder: DavisFolder, settings: Mapping[str, Any], split: str
) -> None:
    write_list(
        folder.root / 'ImageSets' / f'{split}.txt',
        [clip.name for clip in conversion.clips],
    )
    videos = {
        clip.name: {
            'objects': {
                str(label): {'source_id': source_id}
                for label, source_id in enumerate(clip.source_ids, start=1)
            }
        }
        for clip in conversion.clips
    }
    meta = {'settings': dict(settings), 'videos': videos}
    write_whole(folder.root / META_FILE, json.dumps(meta, indent=1))
    (folder.root / UNFINISHED_FILE).unlink()
    shutil.rmtree(folder.aside)
