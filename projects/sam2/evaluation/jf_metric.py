"""J&F of a validation set."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS

from projects.sam2.evaluation.report import (
    describe_gaps,
    describe_nothing,
    format_tables,
    write_report,
)
from projects.sam2.evaluation.scores import VideoScores, summarise


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
        data_batch: Any,  # noqa: ANN401, ARG002  MMEngine's signature
        data_samples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the scores of videos.

        Args:
            data_batch: Not read.
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

        Args:
            results: Sample index and scores of each video, possibly with doubles.

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
