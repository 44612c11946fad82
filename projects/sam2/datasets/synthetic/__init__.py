"""Generated clips in DAVIS layout, with known properties."""

from projects.sam2.datasets.synthetic.clips import (
    ClipKind,
    ClipPlan,
    SyntheticClip,
    copy_iou,
    make_clip,
    make_plans,
    returning_objects,
)
from projects.sam2.datasets.synthetic.writing import (
    check_folder,
    davis_palette,
    write_clip,
    write_dataset,
    write_mask,
)

__all__ = [
    'ClipKind',
    'ClipPlan',
    'SyntheticClip',
    'check_folder',
    'copy_iou',
    'davis_palette',
    'make_clip',
    'make_plans',
    'returning_objects',
    'write_clip',
    'write_dataset',
    'write_mask',
]
