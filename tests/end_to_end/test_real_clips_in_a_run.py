"""Void, sparse masks, a portrait and a late object pass through whole runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS
from numpy.typing import NDArray

from end_to_end_runs import (
    IN_PROCESS,
    log_text,
    small_config,
    train_recorded,
)
from projects.sam2.evaluation import JFAccumulator
from projects.sam2.models import SAM2
from projects.sam2.structures import FrameMasks, FramePrediction, TrackingMode


@pytest.fixture
def mini_vos(data_dir: Path) -> Path:
    """Four real clips."""
    return data_dir / 'mini_vos'


def linked(source: Path, root: Path, clip: str, frames: Sequence[int]) -> Path:
    """A data set of one clip with some of its frames."""
    for folder, suffix in (('JPEGImages', '.jpg'), ('Annotations', '.png')):
        (root / folder / clip).mkdir(parents=True)
        for frame in frames:
            file = f'{frame:05d}{suffix}'
            (root / folder / clip / file).symlink_to(source / folder / clip / file)
    return root


@pytest.fixture
def tennis(mini_vos: Path, tmp_path: Path) -> Config:
    """A run on six frames, void from the third on."""
    whole = DATASETS.build({'type': 'ClipPaletteDataset', 'data_root': str(mini_vos)})
    source = whole.open_video('tennis')
    void = [i for i in range(70) if source.read_masks(i).void is not None]
    start = max(void[0] - 2, 0)
    chosen = range(start, start + 6)
    root = linked(mini_vos, tmp_path / 'data', 'tennis', chosen)
    cfg = small_config(root, tmp_path / 'run', IN_PROCESS)
    for dataset in (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset.dataset):
        dataset.file_list = None
    return cfg


@pytest.fixture
def model(tennis: Config) -> SAM2:
    """The model that the run would train."""
    torch.manual_seed(0)
    built: SAM2 = MODELS.build(tennis.model)
    return built


def test_void_does_not_change_the_loss(tennis: Config, model: SAM2) -> None:
    tennis.train_dataloader.dataset.pipeline[0].update(num_frames=6, frame_gaps=(1,))
    dataset = DATASETS.build(tennis.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([dataset[0, 0]]))['inputs']
    void = batch.targets.void
    assert void is not None
    assert void.any()
    plan = model.prompt_simulator.plan(batch.num_frames, step=0)
    outputs = model.track(batch, plan, TrackingMode.TRAINING)
    flipped = replace(batch.targets, masks=batch.targets.masks ^ void)
    counted = replace(flipped, void=None)
    assert model.loss_module is not None
    expected = model.loss_module(outputs, batch.targets)
    assert model.loss_module(outputs, flipped) == expected
    assert model.loss_module(outputs, counted) != expected


class ShiftedTruth(JFAccumulator):
    """Scores the truth moved by some pixels, whatever the model predicts."""

    def add(self, prediction: FramePrediction) -> None:
        """Put the moved masks in the place of the predicted ones."""
        truth = prediction.truth
        assert truth is not None
        masks = np.zeros_like(prediction.masks)
        for number, object_id in enumerate(prediction.object_ids):
            if object_id in truth.object_ids:
                position = truth.object_ids.index(object_id)
                masks[number] = np.roll(truth.masks[position], 9, axis=-1)
        super().add(replace(prediction, masks=self.changed(masks, truth)))

    def changed(self, masks: NDArray[np.bool_], truth: FrameMasks) -> NDArray[np.bool_]:
        """Leave the masks as they are."""
        del truth
        return masks


class FlippedInVoid(ShiftedTruth):
    """Scores masks that are wrong wherever the truth is void."""

    num_flipped = 0

    def changed(self, masks: NDArray[np.bool_], truth: FrameMasks) -> NDArray[np.bool_]:
        """Turn the masks over there."""
        if truth.void is None:
            return masks
        self.num_flipped += int(truth.void.sum())
        return masks ^ truth.void


def test_void_does_not_change_the_scores(tennis: Config, model: SAM2) -> None:
    (record,) = DATASETS.build(tennis.val_dataloader.dataset)
    flipping = FlippedInVoid()
    scores = []
    for accumulator in (ShiftedTruth(), flipping):
        model.accumulators = [accumulator]
        scores.append(model.eval().predict(record).scores)
    assert flipping.num_flipped > 0
    assert scores[0] == scores[1]
    assert [found.object_id for found in scores[0].objects] == [1, 2]
    assert any(0 < value < 1 for found in scores[0].objects for value in found.frame_j)


def test_portrait_clip_with_sparse_masks_and_a_late_object_trains_and_validates(
    mini_vos: Path, tmp_path: Path
) -> None:
    cfg = small_config(mini_vos, tmp_path, IN_PROCESS, {'train_cfg.max_epochs': 3})
    cfg.train_cfg.val_interval = 3
    for dataset in (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset.dataset):
        dataset.file_list = 'ImageSets/sparse.txt'
    late_ones_count = {'type': 'JFAppearanceProtocol'}
    cfg.model.accumulators = [
        {'type': 'JFAccumulator', 'protocol': late_ones_count},
        {'type': 'MaskletRecorder'},
    ]
    _, recorder = train_recorded(cfg)
    assert recorder.all_finite
    assert [[name for name, _ in seen] for seen in recorder.clips] == [['caps']] * 3
    assert 'Skipped' not in log_text(tmp_path)

    (result,) = recorder.results
    frames = {frame.frame_index: frame for frame in result.masklets.frames}
    assert len(frames) == 87
    prompted = {index: frame.prompted_ids for index, frame in frames.items()}
    assert {index: ids for index, ids in prompted.items() if ids} == {0: (1,), 33: (2,)}
    assert {frames[index].object_ids for index in (0, 32)} == {(1,)}
    assert {frames[index].object_ids for index in (33, 86)} == {(1, 2)}
    assert {tuple(code['size']) for code in frames[86].encoded} == {(853, 480)}
    scored = {found.object_id: found.frames for found in result.scores.objects}
    assert scored == {1: (14, 33, 43, 66), 2: (43, 66)}
