"""Scores of each round of prompts, and their means over a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS, TASK_UTILS

from projects.sam2.evaluation.jaccard import region_similarity
from projects.sam2.evaluation.jf_accumulator import JFAccumulator
from projects.sam2.evaluation.scores import VideoScores, summarise
from projects.sam2.structures import FramePrediction, VideoRecord, VideoResult

__all__ = [
    'ClipPromptIoUAccumulator',
    'ClipPromptIoUMetric',
    'JFRoundsAccumulator',
    'JFRoundsMetric',
    'RoundIoUs',
    'RoundScores',
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundIoUs:
    """IoU of the objects of one image after one round of prompts.

    Attributes:
        name: Of the round, such as ``3_clicks``.
        ious: One for each object on each frame, in [0, 1].
    """

    name: str
    ious: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundScores:
    """J and F of one video after one round of prompts.

    Attributes:
        name: Of the round, such as ``2_frames``.
        scores: Of the video.
    """

    name: str
    scores: VideoScores


@TASK_UTILS.register_module()
class ClipPromptIoUAccumulator:
    """IoU of the masks on prompted frames, round by round."""

    def __init__(self) -> None:
        self._ious: dict[str, list[float]] = {}

    def begin(self, record: VideoRecord) -> None:  # noqa: ARG002  the protocol's
        """Start an image.

        Args:
            record: The image, as a video.
        """
        self._ious = {}

    def add_round(self, prediction: FramePrediction) -> None:
        """Score an answer.

        Args:
            prediction: Of any round, its frame annotated.
        """
        truth = prediction.truth
        if truth is None:
            return
        true_masks = dict(zip(truth.object_ids, truth.masks, strict=True))
        name = prediction.prompt_round.name
        masks = zip(prediction.object_ids, prediction.masks, strict=True)
        self._ious.setdefault(name, []).extend(
            region_similarity(mask, true_masks[object_id], truth.void)
            for object_id, mask in masks
            if object_id in prediction.prompted_ids
        )

    def finish(self, result: VideoResult) -> None:
        """Write the scores of the image.

        Args:
            result: Its field ``rounds`` is set, to :class:`RoundIoUs`.
        """
        rounds = tuple(
            RoundIoUs(name=name, ious=tuple(ious)) for name, ious in self._ious.items()
        )
        result.set_field(rounds, 'rounds')


@TASK_UTILS.register_module()
class JFRoundsAccumulator:
    """J and F of a video, round by round.

    Args:
        protocol: As for :class:`JFAccumulator`.
    """

    def __init__(self, *, protocol: Mapping[str, Any]) -> None:
        self.protocol = protocol
        self._record: VideoRecord | None = None
        self._rounds: dict[str, JFAccumulator] = {}

    def begin(self, record: VideoRecord) -> None:
        """Start a video.

        Args:
            record: The video.
        """
        self._record = record
        self._rounds = {}

    def add_round(self, prediction: FramePrediction) -> None:
        """Score an answer.

        Args:
            prediction: Of any round.

        Raises:
            ValueError: If no video was begun.
        """
        if self._record is None:
            msg = 'JFRoundsAccumulator has no video yet; call begin() first'
            raise ValueError(msg)
        name = prediction.prompt_round.name
        if name not in self._rounds:
            self._rounds[name] = JFAccumulator(protocol=self.protocol)
            self._rounds[name].begin(self._record)
        self._rounds[name].add(prediction)

    def finish(self, result: VideoResult) -> None:
        """Write the scores of the video.

        Args:
            result: Its field ``rounds`` is set, to :class:`RoundScores`.
        """
        rounds = []
        for name, accumulator in self._rounds.items():
            one = VideoResult()
            accumulator.finish(one)
            rounds.append(RoundScores(name=name, scores=one.scores))
        result.set_field(tuple(rounds), 'rounds')


class RoundsMetric(BaseMetric):
    """Gathers the rounds of all images or videos, each once, whoever scored it.

    So the figures are the same whatever the number of processes.

    Attributes:
        accumulator: What the model has to have, for the error.
    """

    # Without a prefix, MMEngine asks for one in the log; an empty one is none.
    default_prefix = ''
    accumulator = ''

    def __init__(self) -> None:
        # As JFMetric: through the process group, not through a shared folder.
        super().__init__(collect_device='gpu')

    def process(
        self,
        data_batch: Any,  # noqa: ANN401, ARG002  MMEngine's signature
        data_samples: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the rounds of images or videos.

        Args:
            data_batch: Not read.
            data_samples: Results, as the dicts that MMEngine's evaluator makes of them.

        Raises:
            ValueError: If a result has no rounds.
        """
        for fields in data_samples:
            if 'rounds' not in fields:
                msg = (
                    f'{fields["video_name"]}: its result has no rounds; add '
                    f"dict(type='{self.accumulator}', …) to model.accumulators"
                )
                raise ValueError(msg)
            self.results.append((int(fields['sample_index']), fields['rounds']))


@METRICS.register_module()
class ClipPromptIoUMetric(RoundsMetric):
    """Mean IoU over the objects of all images, 0 to 100, after each round of prompts.

    Reports ``mIoU_box``, ``mIoU_1_click`` and so on, as ``model.val_prompt_simulator``
    (:class:`SAM2ImageRounds`) has them.
    """

    accumulator = 'ClipPromptIoUAccumulator'

    def compute_metrics(
        self, results: list[tuple[int, tuple[RoundIoUs, ...]]]
    ) -> dict[str, float]:
        """Average over the objects of all images.

        Args:
            results: Sample index and rounds of each image, possibly with doubles.

        Returns:
            A mean for each round; nothing where no image shows an object.
        """
        ious: dict[str, list[float]] = {}
        # In one order, so that rounding does not depend on who scored what.
        for _, rounds in sorted(dict(results).items()):
            for one in rounds:
                ious.setdefault(one.name, []).extend(one.ious)
        return {f'mIoU_{name}': 100 * float(np.mean(v)) for name, v in ious.items()}


@METRICS.register_module()
class JFRoundsMetric(RoundsMetric):
    """Mean J&F over the objects of all videos, 0 to 100, by annotated frames.

    Reports ``J&F_1_frame``, ``J&F_2_frames`` and so on, as
    ``model.val_prompt_simulator`` (:class:`SAM2OfflineRounds`,
    :class:`SAM2OnlineRounds`) has them, and their mean ``J&F_mean``.
    """

    accumulator = 'JFRoundsAccumulator'

    def compute_metrics(
        self, results: list[tuple[int, tuple[RoundScores, ...]]]
    ) -> dict[str, float]:
        """Average over the objects of all videos.

        Args:
            results: Sample index and rounds of each video, possibly with doubles.

        Returns:
            A mean for each round and the mean of these; nothing where no video shows
            an object.
        """
        videos: dict[str, list[VideoScores]] = {}
        for _, rounds in sorted(dict(results).items()):
            for one in rounds:
                videos.setdefault(one.name, []).append(one.scores)
        if not videos:
            return {}
        summaries = {name: summarise(scores) for name, scores in videos.items()}
        for name, summary in summaries.items():
            figures = f'J {summary.j:.2f}, F {summary.f:.2f}'
            print_log(f'{name}: {figures}', logger='current')
        means = {f'J&F_{name}': one.j_and_f for name, one in summaries.items()}
        return {**means, 'J&F_mean': float(np.mean(list(means.values())))}
