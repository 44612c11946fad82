"""Metrics over all videos, and J&F as tables to read and files to keep."""

import csv
import io
import json
import logging
import math
import pickle
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmengine.registry import METRICS

from ..ops import write_atomically
from ..ops.screen import ScreenText
from ..structures import VideoRecord
from .mosev2 import describe_mosev2, disappearance_scores, reappearance_scores
from .scores import (
    ObjectScores,
    PredictionGaps,
    ScoreSummary,
    VideoScores,
    summarise,
)

DUMP_SUFFIXES = ('.pkl', '.pickle', '.json')


class VideoMetric(BaseMetric):
    """Base of metrics that read one field of each video's result.

    Each video counts once and in the order of the dataset, so that the numbers do not
    depend on the number of processes.

    Attributes:
        field: Field of the result that an accumulator of the model has set.
        accumulator: Config of that accumulator, for the error.
    """

    default_prefix = ''  # without it MMEngine warns that there is no prefix
    field = ''
    accumulator = ''

    def __init__(self) -> None:
        # 'gpu' collects through the process group, on any device; 'cpu' would need a
        # folder that all machines share.
        super().__init__(collect_device='gpu')

    def process(
        self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keep the field of each video.

        Args:
            data_samples: Results of videos, which MMEngine's evaluator turned to dicts.

        Raises:
            ValueError: If a result lacks the field.
        """
        for result in data_samples:
            if self.field not in result:
                msg = (
                    f'{result["video_name"]}: its result has no {self.field}; add '
                    f'{self.accumulator} to model.accumulators'
                )
                raise ValueError(msg)
            self.results.append((int(result['sample_index']), result[self.field]))

    def compute_metrics(self, results: list[tuple[int, Any]]) -> dict[str, float]:
        """Compute the metric over all videos."""
        unique = dict(results)
        return self.average([unique[index] for index in sorted(unique)])

    @abstractmethod
    def average(self, videos: list[Any]) -> dict[str, float]:
        """Average over the fields of all videos, in the order of the dataset."""


@METRICS.register_module()
class JFMetric(VideoMetric):
    """Mean J, F and J&F over the objects of all videos, 0 to 100.

    Reports ``J&F``, ``J`` and ``F``, NaN where no object counts, and logs a table. The
    model scores each video while it predicts, by a :class:`JFAccumulator`::

        model = dict(accumulators=[dict(type='JFAccumulator')])
        val_evaluator = dict(type='JFMetric', out_dir='work_dirs/scores')

    By hand:

    >>> from projects.sam2.evaluation import JFMetric, ObjectScores, VideoScores
    >>> obj = ObjectScores(object_id=1, frames=(1,), frame_j=(0.5,), frame_f=(0.75,))
    >>> scores = VideoScores(video_name='clip', objects=(obj,))
    >>> metric = JFMetric()
    >>> metric.process(
    ...     None, [{'sample_index': 0, 'video_name': 'clip', 'scores': scores}]
    ... )
    >>> metric.evaluate(size=1)  # logs a table as well
    {'J&F': 62.5, 'J': 50.0, 'F': 75.0}

    Args:
        out_dir: Folder for tables of objects and videos (CSV) and the scores of each
            frame (JSON), replaced by each validation. Those of the last and the best
            validation of a run are in ``scores/last`` and ``scores/best`` beside its
            log in any case.
    """

    field = 'scores'
    accumulator = "dict(type='JFAccumulator')"

    def __init__(self, *, out_dir: str | None = None) -> None:
        super().__init__()
        self.out_dir = None if out_dir is None else Path(out_dir)

    def average(self, videos: list[VideoScores]) -> dict[str, float]:
        """Average over the objects of all videos, and log the tables."""
        summary = summarise(videos)
        print_log(ScreenText(format_brief_table(videos, summary)), logger='current')
        print_log(f'J&F\n{format_tables(videos, summary)}', logger='current')
        warnings = describe_gaps(videos)
        if not summary.num_objects:
            warnings.append(describe_no_objects(videos))
        for warning in warnings:
            print_log(warning, logger='current', level=logging.WARNING)
        if self.out_dir is not None:
            write_report(self.out_dir, videos, summary)
        log_file = MMLogger.get_current_instance().log_file
        if log_file is not None:
            _keep_scores(Path(log_file).parent / SCORE_FOLDER, videos, summary)
        return {'J&F': summary.j_and_f, 'J': summary.j, 'F': summary.f}


@METRICS.register_module()
class JFMosev2Metric(VideoMetric):
    """Mean J and F of MOSEv2 over the objects of all videos, 0 to 100.

    Reports ``mosev2/J&F_dot``, its parts ``mosev2/J`` and ``mosev2/F_dot``, and J&F
    with a dot where objects are gone (``mosev2/J&F_dot_d``) and after they return
    (``mosev2/J&F_dot_r``); NaN where no object counts. To stand beside J&F::

        model = dict(
            accumulators=[dict(type='JFAccumulator'), dict(type='JFMosev2Accumulator')]
        )
        val_evaluator = [dict(type='JFMetric'), dict(type='JFMosev2Metric')]
    """

    default_prefix = 'mosev2'
    field = 'mosev2_scores'
    accumulator = "dict(type='JFMosev2Accumulator')"

    def average(self, videos: list[VideoScores]) -> dict[str, float]:
        """Average over the objects of all videos."""
        print_log(ScreenText(describe_mosev2(videos)), logger='current')
        summary = summarise(videos)
        return {
            'J&F_dot': summary.j_and_f,
            'J': summary.j,
            'F_dot': summary.f,
            'J&F_dot_d': disappearance_scores(videos).j_and_f,
            'J&F_dot_r': reappearance_scores(videos).j_and_f,
        }


@METRICS.register_module()
class JFRoundsMetric(VideoMetric):
    """Mean J&F over the objects of all videos, 0 to 100, by number of prompted frames.

    Reports ``J&F_1_frame``, ``J&F_2_frames`` and so on, as
    ``model.val_prompt_simulator`` (:class:`SAM2OfflineRounds`,
    :class:`SAM2OnlineRounds`) names them, and their mean ``J&F_mean``; nothing where no
    video shows an object.
    """

    field = 'rounds'
    accumulator = "dict(type='JFRoundsAccumulator', …)"

    def average(self, videos: list[Mapping[str, VideoScores]]) -> dict[str, float]:
        """Average over the objects of all videos, round by round."""
        by_round: dict[str, list[VideoScores]] = {}
        for rounds in videos:
            for name, scores in rounds.items():
                by_round.setdefault(name, []).append(scores)
        means = {}
        for name, round_scores in by_round.items():
            summary = summarise(round_scores)
            numbers = f'J {summary.j:.2f}, F {summary.f:.2f}'
            print_log(f'{name}: {numbers}', logger='current')
            means[f'J&F_{name}'] = summary.j_and_f
        if not means:
            return {}
        return {**means, 'J&F_mean': float(np.mean(list(means.values())))}


@METRICS.register_module()
class ClipPromptIoUMetric(VideoMetric):
    """Mean IoU over the objects of all images, 0 to 100, after each round of prompts.

    Reports ``mIoU_box``, ``mIoU_1_click`` and so on, as ``model.val_prompt_simulator``
    (:class:`SAM2ImageRounds`) names them; nothing where no image shows an object.
    """

    field = 'rounds'
    accumulator = "dict(type='ClipPromptIoUAccumulator')"

    def average(self, videos: list[Mapping[str, Sequence[float]]]) -> dict[str, float]:
        """Average over the objects of all images, round by round."""
        ious: dict[str, list[float]] = {}
        for rounds in videos:
            for name, round_ious in rounds.items():
                ious.setdefault(name, []).extend(round_ious)
        return {f'mIoU_{name}': 100 * float(np.mean(v)) for name, v in ious.items()}


@METRICS.register_module()
class ClipDumpResults(BaseMetric):
    """Writes scores and masks of all videos to one file, as ``tools/test.py --out``.

    The file holds plain types, so that it can be read without this package: a list of
    videos, in the order of the dataset, each a dict with

    - ``video_name`` and ``sample_index``;
    - ``scores``: J and F of each object on each frame (0 to 1), ``mosev2_scores``,
      those of MOSEv2, and ``rounds``, J and F for each round of prompts, where the
      model has an accumulator for them;
    - ``frames``: of each recorded frame ``frame_index``, ``frame_name``,
      ``object_ids``, ``prompted_ids`` and ``segmentations``, a mask per object as
      COCO's compressed RLE at the size of the file.

    It reports no number. The model's :class:`MaskletRecorder` decides which videos and
    frames have masks.

    Args:
        out_file: Path that ends in ``.pkl``, ``.pickle`` or ``.json``.

    Raises:
        ValueError: If the path ends in anything else.
    """

    default_prefix = ''

    def __init__(self, *, out_file: str) -> None:
        super().__init__(collect_device='gpu')
        self.out_file = Path(out_file)
        if self.out_file.suffix not in DUMP_SUFFIXES:
            msg = f'{out_file}: results are written as {", ".join(DUMP_SUFFIXES)}'
            raise ValueError(msg)

    def process(
        self,
        data_batch: Sequence[VideoRecord],
        data_samples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Turn the results of videos to plain types."""
        for record, result in zip(data_batch, data_samples, strict=True):
            video: dict[str, Any] = {
                'video_name': result['video_name'],
                'sample_index': int(result['sample_index']),
            }
            for name in ('scores', 'mosev2_scores', 'rounds'):
                if name in result:
                    video[name] = _plain(result[name])
            frames = result['masklets'].frames if 'masklets' in result else ()
            video['frames'] = [
                {
                    'frame_index': frame.frame_index,
                    'frame_name': record.source.frame_name(frame.frame_index),
                    'object_ids': _plain(frame.object_ids),
                    'prompted_ids': _plain(frame.prompted_ids),
                    'segmentations': _plain(frame.encoded),
                }
                for frame in frames
            ]
            self.results.append(video)

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        """Write the file."""
        videos = {video['sample_index']: video for video in results}
        ordered = [videos[index] for index in sorted(videos)]
        if self.out_file.suffix == '.json':
            content: bytes | str = json.dumps(ordered)
        else:
            content = pickle.dumps(ordered)
        write_atomically(self.out_file, content)
        print_log(ScreenText(f'Wrote {self.out_file}'), logger='current')
        return {}


def _plain(value: Any) -> Any:
    """Turn dataclasses, tuples and NumPy's numbers to dicts, lists and numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


# ------------------------------------------------------------------------ The report

OBJECT_FILE = 'jf_objects.csv'
VIDEO_FILE = 'jf_videos.csv'
FRAME_FILE = 'jf_frames.json'
SCORE_FOLDER = 'scores'  # beside the log of a run
LAST, BEST = 'last', 'best'
MAX_ROWS = 12  # of the table on the screen
MAX_NAMES = 5  # in a line about missing predictions; the JSON file has all

_Row = tuple[str, ...]
_HEADER: _Row = ('video', 'object', 'frames', 'J&F', 'J', 'F')
_VIDEO_HEADER: _Row = ('video', 'objects', *_HEADER[2:])
_FILE_COLUMNS: _Row = (
    'J recall',
    'F recall',
    'J sequence recall',
    'F sequence recall',
    'J decay',
    'F decay',
)


def format_tables(videos: Sequence[VideoScores], summary: ScoreSummary) -> str:
    """Format tables by video and by object, with the mean below."""
    title = f'mean of {summary.num_objects} object{"s" * (summary.num_objects != 1)}'
    rows = [_HEADER, *object_rows(videos), (title, '', '', *_main_columns(summary))]
    by_object = _align(rows)
    if all(len(video.objects) == 1 for video in videos):
        return by_object
    return '\n\n'.join((_align([_VIDEO_HEADER, *video_rows(videos)]), by_object))


def format_brief_table(videos: Sequence[VideoScores], summary: ScoreSummary) -> str:
    """Format a table by video for the screen: of many videos the worst ones only."""
    rows = video_rows(videos)
    if len(rows) > MAX_ROWS:
        means = {id(video): summarise([video]).j_and_f for video in videos}
        worst = sorted(videos, key=lambda video: _nan_last(means[id(video)]))
        rows = video_rows(worst[:MAX_ROWS])
        rows.append((f'… and {len(videos) - MAX_ROWS} better ones', *[''] * 5))
    num_objects = str(summary.num_objects)
    mean = ('mean over objects', num_objects, '', *_main_columns(summary))
    return _align([_VIDEO_HEADER, *rows, mean])


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _keep_scores(
    folder: Path, videos: Sequence[VideoScores], summary: ScoreSummary
) -> None:
    """Write the scores of a validation, and keep those of the best one.

    A full disk must not end the run.
    """
    try:
        write_report(folder / LAST, videos, summary)
        best = _best_score(folder / BEST)
        if math.isnan(best) or summary.j_and_f > best:
            write_report(folder / BEST, videos, summary)
    except OSError as error:
        text = f'The scores could not be written: {error}'
        print_log(text, logger='current', level=logging.WARNING)


def _best_score(folder: Path) -> float:
    """J&F of the best validation so far; NaN if there is none."""
    if not (folder / FRAME_FILE).is_file():
        return math.nan
    try:
        return summarise(read_report(folder)).j_and_f
    except ValueError:  # damaged
        return math.nan


def write_report(
    folder: Path, videos: Sequence[VideoScores], summary: ScoreSummary
) -> None:
    """Write a row per object and per video as CSV, and all frames as JSON.

    Args:
        folder: Created where it is missing; files of an earlier report are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, header, rows in (
        (OBJECT_FILE, _HEADER, object_rows(videos, all_columns=True)),
        (VIDEO_FILE, _VIDEO_HEADER, video_rows(videos, all_columns=True)),
    ):
        table = io.StringIO()
        writer = csv.writer(table, lineterminator='\n')
        writer.writerows([(*header, *_FILE_COLUMNS), *rows])
        write_atomically(folder / name, table.getvalue())
    content = {
        'summary': {'j_and_f': summary.j_and_f, **asdict(summary)},
        'videos': [asdict(video) for video in videos],
    }
    write_atomically(folder / FRAME_FILE, json.dumps(content))


def read_report(folder: Path) -> list[VideoScores]:
    """Read the scores that :func:`write_report` has written.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If the file is damaged.
    """
    path = folder / FRAME_FILE
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        return [_video_scores(video) for video in content['videos']]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        msg = f'{path} is damaged ({type(error).__name__}: {error}); validate again'
        raise ValueError(msg) from error


def _video_scores(video: Mapping[str, Any]) -> VideoScores:
    objects = tuple(
        ObjectScores(**{name: _as_tuple(value) for name, value in obj.items()})
        for obj in video['objects']
    )
    gaps = {name: _as_tuple(value) for name, value in video['gaps'].items()}
    return VideoScores(
        video_name=video['video_name'],
        objects=objects,
        gaps=PredictionGaps(**gaps),
        protocol=video['protocol'],
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def object_rows(
    videos: Sequence[VideoScores], *, all_columns: bool = False
) -> list[_Row]:
    """Make one row per object: video, object, number of frames, J&F, J, F."""
    rows = []
    for video in videos:
        for obj in video.objects:
            alone = VideoScores(video_name=video.video_name, objects=(obj,))
            names = (video.video_name, str(obj.object_id), str(len(obj.frames)))
            rows.append((*names, *_columns(summarise([alone]), all_columns)))
    return rows


def video_rows(
    videos: Sequence[VideoScores], *, all_columns: bool = False
) -> list[_Row]:
    """Make one row per video: video, number of objects and frames, J&F, J, F."""
    return [
        (
            video.video_name,
            str(len(video.objects)),
            str(video.num_frames),
            *_columns(summarise([video]), all_columns),
        )
        for video in videos
    ]


def _columns(summary: ScoreSummary, all_columns: bool) -> _Row:
    """Numbers of a row, 0 to 100; dashes where no object counts."""
    numbers = _main_columns(summary)
    if all_columns:
        numbers += _decimals(
            *(summary.j_recall, summary.f_recall),
            *(summary.j_sequence_recall, summary.f_sequence_recall),
            *(summary.j_decay, summary.f_decay),
        )
    return numbers if summary.num_objects else ('-',) * len(numbers)


def _main_columns(summary: ScoreSummary) -> _Row:
    return _decimals(summary.j_and_f, summary.j, summary.f)


def _decimals(*values: float) -> _Row:
    return tuple(f'{value:.1f}' for value in values)


def _align(rows: Sequence[_Row]) -> str:
    """Pad the columns to equal width: names to the left, numbers to the right."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(
            [
                name.ljust(first),
                *(cell.rjust(n) for cell, n in zip(cells, others, strict=True)),
            ]
        )
        for name, *cells in rows
    )


def describe_summary(summary: ScoreSummary) -> str:
    """Describe recall and decay in a line, 0 to 100."""
    return (
        f'recall (frames above 50): J {summary.j_recall:.1f}, F '
        f'{summary.f_recall:.1f}; sequence recall (objects above 50): J '
        f'{summary.j_sequence_recall:.1f}, F {summary.f_sequence_recall:.1f}; decay: J '
        f'{summary.j_decay:.1f}, F {summary.f_decay:.1f}'
    )


def describe_gaps(videos: Sequence[VideoScores]) -> list[str]:
    """Describe missing and extra predictions, a line for each kind and video."""
    lines: list[str] = []
    for video in videos:
        gaps = video.gaps
        for kind, names, problem in (
            ('frame', gaps.missing_frames, 'not predicted, counted as empty'),
            ('object', gaps.missing_objects, 'never predicted, counted as empty'),
            ('object', gaps.extra_objects, 'predicted, but not in the ground truth'),
        ):
            if names:
                count = f'{len(names)} {kind}{"s" * (len(names) != 1)}'
                more = ', …' * (len(names) > MAX_NAMES)
                listed = ', '.join(map(str, names[:MAX_NAMES])) + more
                lines.append(f'{video.video_name}: {count} ({listed}) {problem}')
    return lines


def describe_no_objects(videos: Sequence[VideoScores]) -> str:
    """Explain why no object counts."""
    protocols = sorted({video.protocol for video in videos if video.protocol})
    return (
        f'No object of {len(videos)} videos counts, and J&F is unknown. The protocol: '
        f'{"; ".join(protocols) or "none"}. Choose another one where videos have one '
        'or two annotated frames or where objects appear late; in masks of 0 and 255 '
        'the 255 is void: set void_label=None in the dataset'
    )
