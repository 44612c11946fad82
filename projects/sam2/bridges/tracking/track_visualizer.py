"""Draws tracks by mmdetection's visualizer."""

from typing import Any

import numpy as np
from mmengine.registry import VISUALIZERS
from mmengine.structures import InstanceData
from numpy.typing import NDArray

from ...ops import import_optional
from ..mmcv_operators import ensure_operators
from ..samples import mask_array

ensure_operators()  # before mmdet.models is imported

from mmdet.visualization import TrackLocalVisualizer  # noqa: E402


@VISUALIZERS.register_module()
class MaskletTrackVisualizer(TrackLocalVisualizer):
    """mmdetection's visualizer of tracks, for the ground truth of its pipelines too.

    In the ground truth, ids have another name and masks another type than the base
    reads. Its colours need seaborn.
    """

    def _draw_instances(
        self, image: NDArray[np.uint8], instances: InstanceData
    ) -> NDArray[np.uint8]:
        """Draw the instances that have an id."""
        import_optional('seaborn', purpose='Drawing tracks', install='seaborn')
        source: Any = instances
        if not len(instances):
            return image
        ids = source.get('instances_id', source.get('instances_ids'))
        if ids is None:
            return image
        drawn: Any = InstanceData(
            metainfo=None,
            instances_id=[int(key) for key in ids],
            labels=source.labels,
            bboxes=getattr(source.bboxes, 'tensor', source.bboxes),
        )
        if 'scores' in source:
            drawn.scores = source.scores
        if 'masks' in source:
            drawn.masks = mask_array(source.masks, image.shape[:2])
        picture: NDArray[np.uint8] = super()._draw_instances(image, drawn)
        return picture
