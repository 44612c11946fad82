"""Validates an exported model in MMEngine's test loop."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS, TASK_UTILS

from ..models.tracking.rounds import collect_predictions, predict_video
from ..structures import VideoRecord, VideoResult
from .loading import load_exported


@MODELS.register_module()
class SAM2Exported(BaseModel):
    """An exported model, as ``tools/test.py CONFIG EXPORT`` evaluates it.

    Args:
        folder: Folder of the export.
        val_prompt_simulator: As for :class:`SAM2`.
        accumulators: Likewise.
        options: Options of the model that the export must have, or that act outside of
            its graphs, as for :class:`ExportedSAM2`.

    Example:
        >>> config.model = dict(
        ...     type='SAM2Exported',
        ...     folder='work_dirs/sam2_onnx',
        ...     val_prompt_simulator=config.model.val_prompt_simulator,
        ...     accumulators=config.model.accumulators,
        ...     options={'tracker.memory_bank.max_pointers': 8},
        ... )
        >>> metrics = Runner.from_cfg(config).test()
    """

    def __init__(
        self,
        *,
        folder: str | Path,
        val_prompt_simulator: dict[str, Any],
        accumulators: Sequence[dict[str, Any]],
        options: dict[str, Any],
    ) -> None:
        exported = load_exported(folder, changes=options)
        size = exported.manifest.image_size
        super().__init__(
            data_preprocessor={'type': 'ClipDataPreprocessor', 'image_size': size}
        )
        self.exported = exported
        self.val_prompt_simulator = MODELS.build(val_prompt_simulator)
        self.accumulators = [TASK_UTILS.build(config) for config in accumulators]

    def forward(  # type: ignore[override]  # videos, not one tensor
        self,
        inputs: Sequence[VideoRecord],
        mode: str = 'predict',
    ) -> list[VideoResult]:
        """Track the objects of videos, as :meth:`SAM2.predict` does.

        Raises:
            ValueError: If the mode is not ``'predict'``.
        """
        if mode != 'predict':
            msg = f"An exported model only predicts; mode is {mode!r}, give 'predict'"
            raise ValueError(msg)
        return [self._predict(record) for record in inputs]

    def _predict(self, record: VideoRecord) -> VideoResult:
        predictions = predict_video(
            self.exported, self.val_prompt_simulator, record.source
        )
        return collect_predictions(self.accumulators, record, predictions)
