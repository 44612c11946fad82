"""Data samples of mmdetection and mmsegmentation, from our records and back.

========================  ==================================================
our record                sample
========================  ==================================================
masks, boxes, ids         ``DetDataSample``: :func:`det_sample`
masks with classes        ``SegDataSample``: :func:`seg_sample`
frames of a video         ``TrackDataSample``: :func:`track_sample`
``ObjectPrompt``          from a ``DetDataSample``: :func:`object_prompts`
``FrameMasks``            from a Det- or SegDataSample: :func:`frame_masks`
========================  ==================================================

Arrays, tensors and lists are taken alike; what is returned lies on the CPU.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..apis import ObjectPrompt
from ..datasets.sources.segmentations import decode_segmentation
from ..ops import decode_masks, import_optional
from ..structures import VOID_LABEL, FrameMasks
from .mmcv_operators import ensure_operators

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample, TrackDataSample
    from mmseg.structures import SegDataSample

TensorLike = ArrayLike | Tensor
Size = tuple[int, int]  # height and width


# ------------------------------------------------------------------ ours to theirs


def det_sample(
    masks: TensorLike | None = None,
    *,
    boxes: TensorLike | None = None,
    scores: TensorLike | None = None,
    labels: TensorLike | None = None,
    object_ids: TensorLike | None = None,
    metainfo: Mapping[str, Any],
) -> 'DetDataSample':
    """Make a sample with predictions of an image or of a frame.

    Args:
        masks: (O, height, width), bool, at the size of the file; None for boxes alone.
        boxes: (O, 4), corners ``(x, y, x, y)`` in pixels of the file; by default those
            of the masks, zeros for an empty mask.
        scores: (O,), in [0, 1]; 1 by default.
        labels: (O,), indices of classes; 0 by default.
        object_ids: (O,), ids of tracked objects.
        metainfo: Such as ``img_id``, ``ori_shape``, ``img_path``, ``frame_id``.

    Returns:
        A sample with ``pred_instances`` (``bboxes``, ``scores``, ``labels`` and, where
        given, ``masks`` and ``instances_id``). With ids, ``pred_track_instances``, what
        metrics and visualizers of videos read, is the same.

    Raises:
        ValueError: If there are neither masks nor boxes, or their numbers differ.
    """
    mask_tensor = None if masks is None else _tensor(masks, torch.bool)
    if mask_tensor is not None and mask_tensor.ndim != 3:
        msg = (
            f'masks have shape {tuple(mask_tensor.shape)}; give (O, height, width), '
            f'also (0, height, width) where there is no object'
        )
        raise ValueError(msg)
    fields: dict[str, Tensor] = {}
    if boxes is not None:
        fields['bboxes'] = _tensor(boxes, torch.float32).reshape(-1, 4)
    elif mask_tensor is not None:
        fields['bboxes'] = boxes_of(mask_tensor)
    else:
        msg = 'A sample needs masks or boxes, but both are None'
        raise ValueError(msg)
    num_objects = len(fields['bboxes'])
    fields['scores'] = _tensor(
        torch.ones(num_objects) if scores is None else scores, torch.float32
    )
    fields['labels'] = _tensor(
        torch.zeros(num_objects) if labels is None else labels, torch.int64
    )
    if mask_tensor is not None:
        fields['masks'] = mask_tensor
    if object_ids is not None:
        fields['instances_id'] = _tensor(object_ids, torch.int64)
    _check_lengths(fields, num_objects)
    sample = _structures('mmdet').DetDataSample(metainfo=dict(metainfo))
    sample.pred_instances = InstanceData(metainfo=None, **fields)
    if object_ids is not None:
        sample.pred_track_instances = InstanceData(metainfo=None, **fields)
    return sample  # type: ignore[no-any-return]


def seg_sample(
    masks: TensorLike,
    labels: TensorLike,
    scores: TensorLike,
    *,
    background: int | None,
    metainfo: Mapping[str, Any],
) -> 'SegDataSample':
    """Paint masks with classes into a map; the higher score wins a pixel.

    Args:
        masks: (O, height, width), bool, at the size of the file.
        labels: (O,), indices of classes.
        scores: (O,); of equal scores the earlier mask wins.
        background: Class of the pixels that no mask covers; None for 255, which is no
            class.
        metainfo: Such as ``ori_shape``, ``img_path``.

    Returns:
        A sample with ``pred_sem_seg``, (1, height, width), int64.

    Raises:
        ValueError: If masks, labels and scores do not belong together.
    """
    mask_tensor = _tensor(masks, torch.bool)
    if mask_tensor.ndim != 3:
        msg = (
            f'masks have shape {tuple(mask_tensor.shape)}; give (O, height, width), '
            f'also (0, height, width) where there is no object'
        )
        raise ValueError(msg)
    fields = {
        'labels': _tensor(labels, torch.int64),
        'scores': _tensor(scores, torch.float32),
    }
    _check_lengths(fields, len(mask_tensor))
    fill = VOID_LABEL if background is None else background
    classes = torch.full(mask_tensor.shape[1:], fill, dtype=torch.int64)
    # From the last place to the first, so that the best mask is painted last.
    order = fields['scores'].argsort(descending=True, stable=True).flip(0)
    for index in order.tolist():
        classes[mask_tensor[index]] = fields['labels'][index]
    sample = _structures('mmseg').SegDataSample(metainfo=dict(metainfo))
    sample.pred_sem_seg = PixelData(data=classes[None])  # (1, height, width)
    return sample  # type: ignore[no-any-return]


def track_sample(frames: 'Sequence[DetDataSample]') -> 'TrackDataSample':
    """Join the samples of a video's frames.

    Args:
        frames: In the order of the video, all of it. Where a frame lacks ``frame_id``,
            ``video_length`` or ``ori_video_length``, which mmdetection's metrics read,
            the position and the number of frames are filled in.

    Raises:
        ValueError: If there is no frame.
    """
    if not frames:
        msg = 'A TrackDataSample needs at least one frame, but there is none'
        raise ValueError(msg)
    for index, frame in enumerate(frames):
        usual = {
            'frame_id': index,
            'video_length': len(frames),
            'ori_video_length': len(frames),
        }
        frame.set_metainfo(
            {k: v for k, v in usual.items() if k not in frame.metainfo_keys()}
        )
    sample = _structures('mmdet').TrackDataSample()
    sample.video_data_samples = list(frames)
    return sample  # type: ignore[no-any-return]


# ------------------------------------------------------------------ theirs to ours


def object_prompts(
    sample: 'DetDataSample',
    *,
    kind: Literal['boxes', 'masks'] = 'boxes',
    truth: bool = False,
    threshold: float = 0.0,
    id_offset: int = 0,
) -> list[ObjectPrompt]:
    """Turn the instances of an image or of a frame into prompts.

    Args:
        sample: Boxes and masks must be in pixels of the file. Predictions and the truth
            of mmdetection's test pipelines are; training pipelines resize the truth.
        kind: Prompt with boxes or with masks.
        truth: Take ``gt_instances`` in place of the predictions.
        threshold: Leave out predictions with a lower score.
        id_offset: Added to ids; 1 for those of mmdetection's trackers, which count from
            0, while ours count from 1.

    Returns:
        A prompt for each instance, of object ``instances_id``, or 1, 2, … without ids.
        Of a frame of a video, the frame is its ``frame_id``. Boxes are clamped to the
        image where the sample has an ``ori_shape``; empty boxes and masks are left out.

    Raises:
        ValueError: If the sample has no such instances, or an id is less than 1.
    """
    instances = _instances(sample, truth=truth, threshold=threshold)
    ids = [number + id_offset for number in _object_ids(instances)]
    if any(number < 1 for number in ids):
        msg = f'The ids {ids} count from {min(ids)}, but objects from 1; give id_offset'
        raise ValueError(msg)
    frame_index = int(sample.get('frame_id', 0))
    prompts = []
    if kind == 'masks':
        masks = mask_array(instances.get('masks'), sample.get('ori_shape'))
        for object_id, mask in zip(ids, masks, strict=True):
            if mask.any():
                prompts.append(
                    ObjectPrompt(
                        object_id=object_id, frame_index=frame_index, mask=mask
                    )
                )
        return prompts
    boxes = _tensor(
        getattr(instances.bboxes, 'tensor', instances.bboxes), torch.float32
    )
    height, width = sample.get('ori_shape', (float('inf'), float('inf')))[:2]
    for object_id, box in zip(ids, boxes.tolist(), strict=True):
        left, right = (min(max(x, 0.0), width) for x in box[0::2])
        top, bottom = (min(max(y, 0.0), height) for y in box[1::2])
        if left < right and top < bottom:
            prompts.append(
                ObjectPrompt(
                    object_id=object_id,
                    frame_index=frame_index,
                    box=(left, top, right, bottom),
                )
            )
    return prompts


def frame_masks(
    sample: 'DetDataSample | SegDataSample',
    *,
    truth: bool = False,
    threshold: float = 0.0,
) -> FrameMasks:
    """Take the masks of a sample as objects.

    Args:
        sample: Instances with masks become objects, see :func:`object_prompts` for
            their ids; of a sample with ``gt_sem_seg`` or ``pred_sem_seg`` each class is
            an object, its id the class plus one.
        truth: Take the ground truth in place of the predictions.
        threshold: Leave out predicted instances with a lower score.

    Returns:
        The masks. Ignored instances, and pixels of 255, are void.

    Raises:
        ValueError: If the sample has no such masks.
    """
    semantic = sample.get('gt_sem_seg' if truth else 'pred_sem_seg')
    has_instances = ('gt_instances' if truth else 'pred_instances') in sample
    if semantic is not None and not has_instances:
        data = semantic.get('data', semantic.get('sem_seg'))
        return _class_masks(_tensor(data, torch.int64)[0].numpy())
    instances = _instances(sample, truth=truth, threshold=threshold)
    size = sample.get('ori_shape')
    masks = mask_array(instances.get('masks'), size)
    void = None
    ignored = sample.get('ignored_instances') if truth else None
    if ignored is not None and len(ignored) and 'masks' in ignored:
        # Pixels of an object are not void.
        outside = ~masks.any(axis=0)
        void = np.logical_and(mask_array(ignored.masks, size).any(axis=0), outside)
    return FrameMasks(
        object_ids=_object_ids(instances),
        masks=masks,
        void=None if void is None or not void.any() else void,
    )


def mask_array(masks: Any, size: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """Decode masks in any form that mmdetection has for them.

    Args:
        masks: ``BitmapMasks``, ``PolygonMasks``, a tensor or an array (O, height,
            width), or a list with run lengths, polygons or an array for each object.
        size: Height and width of the image; needed for an empty list and for polygons
            in a list.

    Returns:
        (O, height, width).

    Raises:
        ValueError: If there are no masks, or they have another form or size.
    """
    if masks is None:
        msg = 'The instances of the sample have no masks; give a sample with masks'
        raise ValueError(msg)
    if hasattr(masks, 'to_ndarray'):  # BitmapMasks, PolygonMasks
        masks = masks.to_ndarray().reshape(-1, masks.height, masks.width)
    if isinstance(masks, Sequence):
        return _decode_list(masks, size)
    return _tensor(masks, torch.bool).numpy()


def boxes_of(masks: Tensor) -> Tensor:
    """Boxes of masks (O, height, width): (O, 4), the far corner beyond the last pixel.

    The box of an empty mask is zero, as mmdetection has it.
    """
    ensure_operators()
    mask_utils = import_optional(
        'mmdet.structures.mask', purpose='A DetDataSample', install='mmdet==3.3.0'
    )
    boxes: Tensor = mask_utils.mask2bbox(masks)
    return boxes


# ------------------------------------------------------------------------ details


def _structures(package: str) -> Any:
    install = {'mmdet': 'mmdet==3.3.0', 'mmseg': 'mmsegmentation==1.2.2'}[package]
    return import_optional(
        f'{package}.structures', purpose=f'A data sample of {package}', install=install
    )


def _tensor(values: TensorLike, dtype: torch.dtype) -> Tensor:
    if not isinstance(values, Tensor):
        values = torch.from_numpy(np.asarray(values))
    return values.detach().to('cpu', dtype)


def _check_lengths(fields: Mapping[str, Tensor], num_objects: int) -> None:
    for name, values in fields.items():
        if len(values) != num_objects:
            msg = (
                f'{len(values)} {name} do not fit {num_objects} objects; give one for '
                f'each'
            )
            raise ValueError(msg)


def _instances(sample: Any, *, truth: bool, threshold: float) -> Any:
    """Instances of a sample, tracked ones before those of an image."""
    names = ('gt_instances',) if truth else ('pred_track_instances', 'pred_instances')
    for name in names:
        if name in sample:
            instances = getattr(sample, name)
            break
    else:
        msg = f'The sample has no {names[-1]}; it has {sorted(sample.keys())}'
        raise ValueError(msg)
    if not truth and 'scores' in instances:
        return instances[instances.scores >= threshold]
    return instances


def _object_ids(instances: Any) -> tuple[int, ...]:
    """Ids of instances; predictions and truth spell the field differently."""
    for name in ('instances_id', 'instances_ids'):
        if name in instances:
            return tuple(int(number) for number in instances[name])
    return tuple(range(1, len(instances) + 1))


def _class_masks(labels: NDArray[np.int64]) -> FrameMasks:
    """Masks of the classes in a label map, (height, width)."""
    classes = [label for label in np.unique(labels).tolist() if label != VOID_LABEL]
    void = labels == VOID_LABEL
    return FrameMasks(
        object_ids=tuple(label + 1 for label in classes),
        masks=labels[None] == np.array(classes, np.int64)[:, None, None],
        void=void if void.any() else None,
    )


def _decode_list(masks: Sequence[Any], size: Sequence[int] | None) -> NDArray[np.bool_]:
    if size is None:
        if not masks or not isinstance(masks[0], Mapping):
            msg = 'The size of the masks is unknown; give ori_shape in the metainfo'
            raise ValueError(msg)
        size = masks[0]['size']
    shape = (int(size[0]), int(size[1]))
    decoded = np.zeros((len(masks), *shape), bool)
    for target, mask in zip(decoded, masks, strict=True):
        if isinstance(mask, Mapping):
            target[:] = decode_masks([mask])[0]
        elif isinstance(mask, list):
            target[:] = decode_segmentation(mask, shape, 'a mask of the sample')
        else:
            target[:] = _tensor(mask, torch.bool).numpy()
    return decoded
