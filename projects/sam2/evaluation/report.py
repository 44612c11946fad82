"""Scores as tables to read and as files to keep."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from projects.sam2.evaluation.scores import ScoreSummary, VideoScores, summarise
from projects.sam2.ops import write_whole

OBJECT_FILE = 'jf_objects.csv'
FRAME_FILE = 'jf_frames.json'

_HEADER = ('video', 'object', 'frames', 'J&F', 'J', 'F')
_Row = tuple[str, ...]


def object_rows(videos: Sequence[VideoScores]) -> list[_Row]:
    """One row for each object.

    Args:
        videos: Scores of each video.

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

    Args:
        videos: Scores of each video.

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
    """Tables by video and by object, with the mean below.

    Args:
        videos: Scores of each video.
        summary: Their mean.

    Returns:
        Lines of text. Where each video has one object, the table by object alone.
    """
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


def write_report(
    folder: Path, videos: Sequence[VideoScores], summary: ScoreSummary
) -> None:
    """Write a row for each object as CSV, and each frame as json.

    Args:
        folder: Made where it is missing; files of an earlier report are replaced.
        videos: Scores of each video.
        summary: Their mean.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    csv.writer(table, lineterminator='\n').writerows([_HEADER, *object_rows(videos)])
    write_whole(folder / OBJECT_FILE, table.getvalue())
    content = {
        'summary': asdict(summary),
        'videos': [asdict(video) for video in videos],
    }
    write_whole(folder / FRAME_FILE, json.dumps(content))


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
