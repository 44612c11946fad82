"""Data samples of mmdetection and mmsegmentation, from our records and back.

=============================  ================================================
from ours                      to theirs
=============================  ================================================
masks, boxes, scores, ids      :func:`det_sample`: ``DetDataSample``
masks with classes             :func:`seg_sample`: ``SegDataSample``
samples of a video's frames    :func:`track_sample`: ``TrackDataSample``
``PromptableDataSample``,      :func:`to_det_sample`: ``DetDataSample``
``VideoFrameResult``,
``AutomaticMask``,
``FrameMasks`` (ground truth)
``ClipSample``                 :func:`to_track_sample`: ``TrackDataSample``
=============================  ================================================

=============================  ================================================
from theirs                    to ours
=============================  ================================================
``DetDataSample``              :func:`object_prompts`: ``ObjectPrompt``
``DetDataSample``              :func:`promptable_sample`: ``PromptableDataSample``
Det- or ``SegDataSample``      :func:`frame_masks`: ``FrameMasks``
frames, ``TrackDataSample``    :func:`clip_sample`: ``ClipSample``
=============================  ================================================

Arrays, tensors and lists are taken alike; what is returned lies on the CPU.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..apis import ObjectPrompt, PromptableDataSample
from ..apis.inputs import read_choice
from ..apis.video_predictor import VideoFrameResult
from ..datasets.annotated_video import pick_objects
from ..datasets.sources.segmentations import decode_segmentation
from ..ops import decode_masks
from ..structures import VOID_LABEL, ClipSample, FrameMasks
from .detection.box_prompts import clean_boxes
from .mmcv_operators import import_package

if TYPE_CHECKING:
    from mmdet.structures import DetDataSample, TrackDataSample
    from mmseg.structures import SegDataSample

TensorLike = ArrayLike | Tensor
# Meta information of a ClipSample.
CLIP_INFO = (
    'video_name',
    'frame_indices',
    'sample_index',
    'seed',
    'original_size',
    'is_multi_scale',
)


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


def to_det_sample(
    record: PromptableDataSample | VideoFrameResult | FrameMasks | Sequence[Any],
    *,
    labels: TensorLike | None = None,
    metainfo: Mapping[str, Any] | None = None,
) -> 'DetDataSample':
    """Convert a record of this package.

    Args:
        record: One of

            - :class:`PromptableDataSample`; its meta information is kept;
            - :class:`VideoFrameResult`: objects with a pixel, with ids and the
              probability that the object is in the frame as their score;
            - a list of :class:`AutomaticMask` of an image, with the predicted IoU as
              their score;
            - :class:`FrameMasks`, the ground truth: ``gt_instances`` with the boxes of
              the masks and ``instances_ids``; void becomes an ignored instance.
        labels: (O,), classes of the objects, in the order of the record; 0 by default.
        metainfo: Further meta information.

    Raises:
        TypeError: If the record is of another type.
        ValueError: If labels do not fit, or ids of objects are no numbers.
    """
    info = dict(metainfo or {})
    if isinstance(record, PromptableDataSample):
        instances: Any = record.pred_instances  # its fields are dynamic
        return det_sample(
            instances.masks,
            scores=instances.scores,
            labels=labels,
            object_ids=instances.object_ids,
            metainfo={**record.metainfo, **info},
        )
    if isinstance(record, VideoFrameResult):
        return _tracked_sample(record, labels, info)
    if isinstance(record, FrameMasks):
        return _truth_sample(record, labels, info)
    if isinstance(record, list | tuple):
        codes = [mask['segmentation'] for mask in record]
        masks = mask_array(codes, info.get('ori_shape'))
        return det_sample(
            masks,
            scores=[mask['predicted_iou'] for mask in record],
            labels=labels,
            metainfo={'ori_shape': masks.shape[1:], **info},
        )
    msg = (
        f'A {type(record).__name__} cannot be converted; give a PromptableDataSample, '
        f'a VideoFrameResult, FrameMasks or a list of AutomaticMask'
    )
    raise TypeError(msg)


def _tracked_sample(
    record: VideoFrameResult, labels: TensorLike | None, info: Mapping[str, Any]
) -> 'DetDataSample':
    object_ids: list[Any] = record.object_ids
    texts = [number for number in object_ids if isinstance(number, str)]
    if texts:
        msg = f'Object {texts[0]!r} has a name for its id; mmdetection takes numbers'
        raise ValueError(msg)
    masks = (record.mask_logits[:, 0] > 0).cpu()  # (O, height, width)
    fields = {
        'labels': torch.zeros(len(masks)) if labels is None else torch.as_tensor(labels)
    }
    _check_lengths(fields, len(masks))
    shown = masks.flatten(1).any(dim=1)
    return det_sample(
        masks[shown],
        scores=record.object_score_logits.float().sigmoid().cpu()[shown],
        labels=fields['labels'].cpu()[shown],
        object_ids=torch.tensor(object_ids, dtype=torch.int64)[shown],
        metainfo={
            'frame_id': record.frame_index,
            'ori_shape': tuple(masks.shape[1:]),
            **info,
        },
    )


def _truth_sample(
    record: FrameMasks, labels: TensorLike | None, info: Mapping[str, Any]
) -> 'DetDataSample':
    size = record.masks.shape[1:]
    sample = _structures('mmdet').DetDataSample(metainfo={'ori_shape': size, **info})
    truth = _truth(record.masks, labels)
    truth.set_field(torch.tensor(record.object_ids, dtype=torch.int64), 'instances_ids')
    sample.gt_instances = truth
    void = np.zeros((0, *size), bool) if record.void is None else record.void[None]
    sample.ignored_instances = _truth(void, None)
    return sample  # type: ignore[no-any-return]


def to_track_sample(
    clip: ClipSample, *, labels: TensorLike | None = None
) -> 'TrackDataSample':
    """Convert a training clip; its frames stay ``clip.frames``.

    Args:
        clip: Of O objects.
        labels: (O,), classes of the objects; 0 by default.

    Returns:
        A sample of each frame: ``gt_instances`` of the objects that it shows, none
        where it is not annotated, ``ignored_instances`` with the void pixels, and meta
        information. That of the clip has all ``object_ids`` and ``clip_info``, so that
        :func:`clip_sample` gives the same clip.
    """
    all_labels = _tensor(
        torch.zeros(len(clip.object_ids)) if labels is None else labels, torch.int64
    )
    _check_lengths({'labels': all_labels}, len(clip.object_ids))
    size = tuple(clip.frames.shape[-2:])
    frames = []
    for index, frame_index in enumerate(clip.frame_indices):
        shown = clip.masklets[index].flatten(1).any(dim=1)
        void = clip.void[index].numpy()
        masks = FrameMasks(
            object_ids=tuple(clip.object_ids[shown].tolist()),
            masks=clip.masklets[index][shown].numpy(),
            void=void if void.any() else None,
        )
        frame = to_det_sample(
            masks,
            labels=all_labels[shown],
            metainfo={
                'ori_shape': clip.original_size,
                'img_shape': size,
                'frame_id': int(frame_index),
                'img_id': int(frame_index),
            },
        )
        if not clip.annotated[index]:
            del frame.gt_instances
        frames.append(frame)
    sample = track_sample(frames)
    sample.set_metainfo(
        {
            'object_ids': tuple(clip.object_ids.tolist()),
            'clip_info': {name: getattr(clip, name) for name in CLIP_INFO},
        }
    )
    return sample


# ------------------------------------------------------------------ theirs to ours


def object_prompts(
    sample: 'DetDataSample',
    *,
    kind: Literal['boxes', 'masks'] = 'boxes',
    truth: bool = False,
    threshold: float = 0.0,
    id_offset: int = 0,
    class_names: Sequence[str] = (),
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
        class_names: ``dataset_meta['classes']``; the prompts get the name of their
            label as ``category``.

    Returns:
        A prompt for each instance, of object ``instances_id``, or 1, 2, … without ids.
        Of a frame of a video, the frame is its ``frame_id``. Boxes are clamped to the
        image; empty boxes and masks are left out.

    Raises:
        ValueError: If the sample has no such instances or no ``ori_shape``, or an id is
            less than 1.
    """
    read_choice(kind, name='kind', choices=('boxes', 'masks'))
    instances = _instances(sample, truth=truth, threshold=threshold)
    ids = [number + id_offset for number in _object_ids(instances)]
    if any(number < 1 for number in ids):
        msg = f'The ids {ids} count from {min(ids)}, but objects from 1; give id_offset'
        raise ValueError(msg)
    frame_index = int(sample.get('frame_id', 0))
    names = [''] * len(ids)
    if class_names:
        names = [class_names[label] for label in instances.labels.tolist()]
    shapes: list[dict[str, Any] | None]
    if kind == 'masks':
        masks = mask_array(instances.get('masks'), sample.get('ori_shape'))
        shapes = [{'mask': mask} if mask.any() else None for mask in masks]
    else:
        boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
        size = sample.get('ori_shape')
        if size is None:
            msg = 'The size of the image is unknown; give ori_shape in the metainfo'
            raise ValueError(msg)
        clean, is_box = clean_boxes(_tensor(boxes, torch.float32), size[:2])
        rows = zip(clean.tolist(), is_box.tolist(), strict=True)
        shapes = [{'box': tuple(box)} if usable else None for box, usable in rows]
    return [
        ObjectPrompt(object_id=number, frame_index=frame_index, category=name, **shape)
        for number, name, shape in zip(ids, names, shapes, strict=True)
        if shape is not None
    ]


def promptable_sample(
    sample: 'DetDataSample', *, threshold: float = 0.0
) -> PromptableDataSample:
    """Convert predictions with masks, for :func:`show_result_pyplot` for example.

    Args:
        sample: Has ``pred_instances`` or ``pred_track_instances`` with masks; ids are
            ``instances_id``, or 1, 2, … without them.
        threshold: Leave out predictions with a lower score.

    Raises:
        ValueError: If the sample has no predicted masks.
    """
    instances = _instances(sample, truth=False, threshold=threshold)
    masks = mask_array(instances.get('masks'), sample.get('ori_shape'))
    info = {'img_path': None, 'prompts': (), 'ori_shape': masks.shape[1:]}
    result = PromptableDataSample(metainfo=info | dict(sample.metainfo_items()))
    result.pred_instances = InstanceData(
        metainfo=None,
        masks=torch.from_numpy(masks),
        scores=_tensor(instances.scores, torch.float32),
        object_ids=torch.tensor(_object_ids(instances), dtype=torch.int64),
    )
    return result


def clip_sample(
    frames: Tensor, sample: 'TrackDataSample', *, seed: int = 0
) -> ClipSample:
    """Make a training clip from what a video pipeline of mmdetection packs.

    Args:
        frames: (T, 3, H, W), uint8, RGB. ``PackTrackInputs`` packs BGR: give
            ``inputs.flip(1)``.
        sample: Of the same T frames, with ``gt_instances`` that have masks of the size
            of the frames and ``instances_ids``; a frame without them is not annotated.
        seed: Seed of the clip's random clicks.

    Raises:
        ValueError: If numbers or sizes differ, or there are no masks or ids.
    """
    samples = sample.video_data_samples
    size = (int(frames.shape[-2]), int(frames.shape[-1]))
    if len(frames) != len(samples) or frames.dtype != torch.uint8:
        msg = (
            f'{len(frames)} frames of {frames.dtype} do not fit {len(samples)} '
            f'samples; give a frame of uint8 for each'
        )
        raise ValueError(msg)
    truths = [
        frame_masks(frame, truth=True) if 'gt_instances' in frame else None
        for frame in samples
    ]
    for frame, truth in zip(samples, truths, strict=True):
        if truth is not None and truth.masks.shape[1:] != size:
            msg = (
                f'Masks of {truth.masks.shape[1:]} do not fit frames of {size}; resize '
                f'both, with_mask=True in LoadTrackAnnotations'
            )
            raise ValueError(msg)
        if truth and truth.object_ids and 'instances_ids' not in frame.gt_instances:
            msg = (
                'gt_instances have no instances_ids; they tell objects of frames apart'
            )
            raise ValueError(msg)
    shown = dict.fromkeys(i for truth in truths if truth for i in truth.object_ids)
    object_ids = tuple(sample.get('object_ids', shown))
    picked = [truth and pick_objects(truth, object_ids) for truth in truths]
    empty = np.zeros((len(object_ids), *size), bool)
    first = samples[0].metainfo
    info = {
        'video_name': str(first.get('video_id', '')),
        'frame_indices': tuple(
            int(frame.get('frame_id', index)) for index, frame in enumerate(samples)
        ),
        'sample_index': 0,
        'seed': seed,
        'original_size': tuple(first.get('ori_shape', size)),
        'is_multi_scale': False,
    }
    voids = [_void_of(frame, size) for frame in samples]
    return ClipSample(
        metainfo=info | dict(sample.get('clip_info', {})),
        frames=frames,
        masklets=torch.from_numpy(
            np.stack([empty if masks is None else masks.masks for masks in picked])
        ),  # (T, O, H, W)
        void=torch.from_numpy(np.stack(voids)),  # (T, H, W)
        annotated=torch.tensor([truth is not None for truth in truths]),
        object_ids=torch.tensor(object_ids, dtype=torch.int64),
    )


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
    void = np.zeros(masks.shape[1:], bool)
    if truth:  # pixels of an object are not void
        void = np.greater(_void_of(sample, masks.shape[1:]), masks.any(axis=0))
    return FrameMasks(
        object_ids=_object_ids(instances),
        masks=masks,
        void=void if void.any() else None,
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
    boxes: Tensor = _structures('mmdet', '.mask').mask2bbox(masks)
    return boxes


# ------------------------------------------------------------------------ details


def _structures(package: str, module: str = '') -> Any:
    return import_package(
        f'{package}.structures{module}', purpose=f'A data sample of {package}'
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


def _truth(masks: NDArray[np.bool_], labels: TensorLike | None) -> InstanceData:
    """Ground truth with masks (O, height, width), as mmdetection packs it."""
    fields = {
        'bboxes': boxes_of(torch.from_numpy(masks)),
        'labels': _tensor(
            torch.zeros(len(masks)) if labels is None else labels, torch.int64
        ),
    }
    _check_lengths(fields, len(masks))
    bitmaps = _structures('mmdet', '.mask').BitmapMasks(
        masks.astype(np.uint8), *masks.shape[1:]
    )
    return InstanceData(metainfo=None, masks=bitmaps, **fields)


def _void_of(sample: Any, size: Sequence[int]) -> NDArray[np.bool_]:
    """Pixels of ignored instances, (height, width)."""
    ignored = sample.get('ignored_instances')
    if ignored is None or 'masks' not in ignored or not len(ignored):
        return np.zeros(tuple(size[:2]), bool)
    void: NDArray[np.bool_] = np.logical_or.reduce(mask_array(ignored.masks, size))
    return void


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
