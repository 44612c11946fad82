"""Scores as tables to read and as files to keep."""

import csv
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS

from ..ops import write_atomically
from .protocol import ScoreSummary, VideoScores, summarise

OBJECT_FILE = 'jf_objects.csv'
VIDEO_FILE = 'jf_videos.csv'
FRAME_FILE = 'jf_frames.json'
MAX_NAMED = 5  # of a kind in a line of gaps; the json file has all

_HEADER = ('video', 'object', 'frames', 'J&F', 'J', 'F')
_MORE = (
    'J recall',
    'F recall',
    'J sequence recall',
    'F sequence recall',
    'J decay',
    'F decay',
)
_Row = tuple[str, ...]


def object_rows(videos: Sequence[VideoScores]) -> list[_Row]:
    """One row for each object.

    Returns:
        Video, object, number of frames, J&F, J and F (0 to 100) as text.
    """
    return [
        (
            video.video_name,
            str(scores.object_id),
            str(len(scores.frames)),
            *_percent(scores.j, scores.f),
        )
        for video in videos
        for scores in video.objects
    ]


def video_rows(videos: Sequence[VideoScores]) -> list[_Row]:
    """One row for each video; dashes where none of its objects counts.

    Returns:
        Video, number of objects, number of frames, J&F, J and F (0 to 100) as text.
    """
    rows: list[_Row] = []
    for video in videos:
        mean = summarise([video])
        rows.append(
            (
                video.video_name,
                str(mean.num_objects),
                str(video.num_frames),
                *(_percent(mean.j / 100, mean.f / 100) if video.objects else '---'),
            )
        )
    return rows


def format_tables(videos: Sequence[VideoScores], summary: ScoreSummary) -> str:
    """Tables by video and by object, with the mean below."""
    mean = (
        f'mean of {summary.num_objects} object{"s" * (summary.num_objects != 1)}',
        '',
        '',
        *_percent(summary.j / 100, summary.f / 100),
    )
    by_object = _align([_HEADER, *object_rows(videos), mean])
    if all(len(video.objects) == 1 for video in videos):
        return by_object
    header = ('video', 'objects', *_HEADER[2:])
    return '\n\n'.join((_align([header, *video_rows(videos)]), by_object))


def describe_gaps(videos: Sequence[VideoScores]) -> list[str]:
    """Say what predictions lack or have too much."""
    lines: list[str] = []
    for video in videos:
        gaps = video.gaps
        for kind, names, what in (
            ('frame', gaps.missing_frames, 'not predicted, counted as empty'),
            ('object', gaps.missing_objects, 'never predicted, counted as empty'),
            ('object', gaps.extra_objects, 'predicted, but not in the ground truth'),
        ):
            if names:
                lines.append(f'{video.video_name}: {_named(kind, names)} {what}')
    return lines


def describe_nothing(videos: Sequence[VideoScores]) -> str:
    """Say why no object counts."""
    protocols = sorted({video.protocol for video in videos if video.protocol})
    return (
        f'No object of {len(videos)} videos counts, and J&F is unknown. The protocol: '
        f'{"; ".join(protocols) or "none"}. Choose another where videos have one or '
        'two annotated frames or where objects appear late; in masks of 0 and 255 the '
        '255 is void: set void_label=None in the dataset'
    )


def describe_summary(summary: ScoreSummary) -> str:
    """Recall and decay in a line.

    Returns:
        Text, 0 to 100.
    """
    return (
        f'recall (frames above 50): J {summary.j_recall:.1f}, F '
        f'{summary.f_recall:.1f}; sequence recall (objects above 50): J '
        f'{summary.j_sequence_recall:.1f}, F {summary.f_sequence_recall:.1f}; decay: J '
        f'{summary.j_decay:.1f}, F {summary.f_decay:.1f}'
    )


def write_report(
    folder: Path, videos: Sequence[VideoScores], summary: ScoreSummary
) -> None:
    """Write a row for each object and each video as CSV, and each frame as json.

    Args:
        folder: Made where it is missing; files of an earlier report are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    objects = [scores for video in videos for scores in video.objects]
    more = [
        _decimals(*each.recalls, *each.sequence_recalls, *each.decays)
        for each in objects
    ]
    rows = [
        (*row, *columns) for row, columns in zip(object_rows(videos), more, strict=True)
    ]
    _write_table(folder / OBJECT_FILE, [(*_HEADER, *_MORE), *rows])
    header = ('video', 'objects', *_HEADER[2:], *_MORE)
    means = [_video_means(video) for video in videos]
    rows = [
        (*row, *columns) for row, columns in zip(video_rows(videos), means, strict=True)
    ]
    _write_table(folder / VIDEO_FILE, [header, *rows])
    content = {
        'summary': {'j_and_f': summary.j_and_f, **asdict(summary)},
        'videos': [asdict(video) for video in videos],
    }
    write_atomically(folder / FRAME_FILE, json.dumps(content))


def _video_means(video: VideoScores) -> _Row:
    """Recall and decay of a video, dashes where none of its objects counts."""
    if not video.objects:
        return ('-',) * len(_MORE)
    mean = summarise([video])
    values = (
        *(mean.j_recall, mean.f_recall),
        *(mean.j_sequence_recall, mean.f_sequence_recall),
        *(mean.j_decay, mean.f_decay),
    )
    return _decimals(*(value / 100 for value in values))


def _decimals(*values: float) -> _Row:
    return tuple(f'{100 * value:.1f}' for value in values)


def _named(kind: str, names: Sequence[object]) -> str:
    """Count and name things, not too many."""
    listed = ', '.join(map(str, names[:MAX_NAMED]))
    more = ', …' if len(names) > MAX_NAMED else ''
    return f'{len(names)} {kind}{"s" * (len(names) != 1)} ({listed}{more})'


def _write_table(path: Path, rows: Sequence[_Row]) -> None:
    table = io.StringIO()
    csv.writer(table, lineterminator='\n').writerows(rows)
    write_atomically(path, table.getvalue())


def _percent(j: float, f: float) -> tuple[str, str, str]:
    """J&F, J and F as text, 0 to 100."""
    return f'{50 * (j + f):.1f}', f'{100 * j:.1f}', f'{100 * f:.1f}'


def _align(rows: Sequence[_Row]) -> str:
    """Columns of equal width: names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            (
                row[0].ljust(widths[0]),
                *(cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True)),
            )
        )
        for row in rows
    )


@METRICS.register_module()
class JFMetric(BaseMetric):
    """Mean J, F and J&F over the objects of all videos, 0 to 100.

    Reports ``J&F``, ``J`` and ``F``. Each video counts once, whoever scored it, so
    that the figures are the same whatever the number of processes. The model's
    accumulators must hold a :class:`JFAccumulator`.

    Args:
        out_dir: Folder for tables of objects and videos (CSV) and the scores of each
            frame (json), replaced by each validation; None writes nothing.
    """

    # Without a prefix, MMEngine asks for one in the log; an empty one is none.
    default_prefix = ''

    def __init__(self, *, out_dir: str | None = None) -> None:
        # 'gpu' gathers through the process group, on any device: unlike 'cpu' it
        # needs no folder that all machines share.
        super().__init__(collect_device='gpu')
        self.out_dir = None if out_dir is None else Path(out_dir)

    def process(
        self,
        data_batch: Any,
        data_samples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the scores of videos.

        Args:
            data_samples: Results of videos, as the dicts that MMEngine's evaluator
                makes of them.

        Raises:
            ValueError: If a result has no scores.
        """
        for fields in data_samples:
            if 'scores' not in fields:
                msg = (
                    f'{fields["video_name"]}: its result has no scores; add '
                    "dict(type='JFAccumulator') to model.accumulators"
                )
                raise ValueError(msg)
            self.results.append((int(fields['sample_index']), fields['scores']))

    def compute_metrics(
        self, results: list[tuple[int, VideoScores]]
    ) -> dict[str, float]:
        """Average over the objects of all videos, and log the tables.

        Returns:
            ``J&F``, ``J`` and ``F``; NaN where no object counts.
        """
        # In one order, so that rounding does not depend on who scored what.
        unique = dict(results)
        videos = [unique[sample_index] for sample_index in sorted(unique)]
        summary = summarise(videos)
        print_log(f'J&F\n{format_tables(videos, summary)}', logger='current')
        warnings = describe_gaps(videos)
        if not summary.num_objects:
            warnings.append(describe_nothing(videos))
        for warning in warnings:
            print_log(warning, logger='current', level=logging.WARNING)
        if self.out_dir is not None:
            write_report(self.out_dir, videos, summary)
        return {'J&F': summary.j_and_f, 'J': summary.j, 'F': summary.f}
