"""Data samples of mmdetection and mmsegmentation, from our records and back."""

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData, PixelData

from projects.sam2.apis import PromptableDataSample
from projects.sam2.apis.video_predictor import VideoFrameResult
from projects.sam2.bridges.mmcv_operators import ensure_operators
from projects.sam2.bridges.samples import (
    clip_sample,
    det_sample,
    frame_masks,
    mask_array,
    object_prompts,
    promptable_sample,
    seg_sample,
    to_det_sample,
    to_track_sample,
    track_sample,
)
from projects.sam2.ops import encode_masks
from projects.sam2.structures import ClipSample, FrameMasks

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytest.importorskip('mmseg', reason='mmsegmentation is not installed')
ensure_operators()

pytestmark = [
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
    pytest.mark.filterwarnings('ignore::UserWarning'),
    pytest.mark.filterwarnings('ignore::FutureWarning'),
]
SIZE = (20, 30)


def some_masks(num_objects: int = 3) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Rectangles, the last one empty."""
    masks = np.zeros((num_objects, *SIZE), bool)
    for index in range(num_objects - 1):
        masks[index, 2 + index : 9 + index, 5 * index : 8 + 5 * index] = True
    return masks


def polygons_of(masks: np.ndarray[Any, np.dtype[np.bool_]]) -> list[Any]:
    """Rectangles as polygons, as mmdetection's annotations have them."""
    polygons: list[Any] = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            polygons.append([])
            continue
        top, left = rows[0], columns[0]
        bottom, right = rows[-1] + 1, columns[-1] + 1
        polygons.append([[left, top, right, top, right, bottom, left, bottom]])
    return polygons


def test_masks_in_any_form_of_mmdetection_decode_to_the_same() -> None:
    from mmdet.structures.mask import BitmapMasks, PolygonMasks  # noqa: PLC0415

    masks = some_masks()
    plain = [[float(x) for x in each[0]] for each in polygons_of(masks)[:-1]]
    shapes: list[Any] = [
        BitmapMasks(masks.astype(np.uint8), *SIZE),
        torch.from_numpy(masks),
        masks.astype(np.uint8),
        list(encode_masks(masks)),
        [*([polygon] for polygon in plain), []],
        [torch.from_numpy(mask) for mask in masks],
    ]
    for shape in shapes:
        np.testing.assert_array_equal(mask_array(shape, SIZE), masks)
    polygons = PolygonMasks([[np.array(polygon)] for polygon in plain], *SIZE)
    np.testing.assert_array_equal(mask_array(polygons, SIZE), masks[:-1])
    assert mask_array([], SIZE).shape == (0, *SIZE)
    assert mask_array(BitmapMasks(masks[:0], *SIZE)).shape == (0, *SIZE)
    with pytest.raises(ValueError, match='give ori_shape'):
        mask_array([])
    with pytest.raises(ValueError, match='have no masks'):
        mask_array(None)


@pytest.mark.parametrize('num_objects', [0, 3])
def test_predictions_survive_the_way_to_mmdetection_and_back(num_objects: int) -> None:
    masks = torch.from_numpy(some_masks()[:num_objects])
    record = PromptableDataSample(
        metainfo={'ori_shape': SIZE, 'img_path': 'a.jpg', 'prompts': ()}
    )
    scores, ids = torch.tensor([0.5, 0.9, 0.1]), torch.tensor([4, 2, 9])
    record.pred_instances = InstanceData(
        masks=masks, scores=scores[:num_objects], object_ids=ids[:num_objects]
    )
    sample: Any = to_det_sample(record, labels=[1, 0, 3][:num_objects])
    assert sample.pred_instances.labels.tolist() == [1, 0, 3][:num_objects]
    boxes = [[0, 2, 8, 9], [5, 3, 13, 10], [0, 0, 0, 0]]
    assert sample.pred_track_instances.bboxes.tolist() == boxes[:num_objects]
    back: Any = promptable_sample(sample)
    assert dict(back.metainfo_items()) == dict(record.metainfo_items())
    for name, values in record.pred_instances.items():
        assert torch.equal(back.pred_instances[name], values)
        assert back.pred_instances[name].dtype == values.dtype


def test_ground_truth_survives_with_void_and_ids() -> None:
    void = np.zeros(SIZE, bool)
    void[15:] = True
    for record in (
        FrameMasks(object_ids=(7, 3, 8), masks=some_masks(), void=void),
        FrameMasks(object_ids=(), masks=some_masks()[:0]),
    ):
        back = frame_masks(to_det_sample(record), truth=True)
        assert back.object_ids == record.object_ids
        np.testing.assert_array_equal(back.masks, record.masks)
        np.testing.assert_equal(back.void, record.void)


def test_clip_survives_the_way_to_a_track_and_back() -> None:
    masks = torch.from_numpy(np.stack([some_masks(4), np.roll(some_masks(4), 3, 2)]))
    masks[1, 0] = False  # an object that is hidden on the second frame
    clip = ClipSample(
        metainfo={
            'video_name': 'ant',
            'frame_indices': (4, 6, 8),
            'sample_index': 5,
            'seed': 11,
            'original_size': (40, 60),
            'is_multi_scale': True,
        },
        frames=torch.randint(0, 255, (3, 3, *SIZE), dtype=torch.uint8),
        masklets=torch.cat([masks, torch.zeros_like(masks[:1])]),
        void=torch.zeros(3, *SIZE, dtype=torch.bool),
        annotated=torch.tensor([True, True, False]),
        object_ids=torch.tensor([3, 9, 1, 6]),  # the last one is never seen
    )
    clip.void[1, 15:] = True
    sample: Any = to_track_sample(clip, labels=[2, 0, 1, 0])
    assert [frame.frame_id for frame in sample.video_data_samples] == [4, 6, 8]
    second = sample[1].gt_instances
    assert second.instances_ids.tolist() == [9, 1]
    assert second.labels.tolist() == [0, 1]
    assert 'gt_instances' not in sample[2]
    back = clip_sample(clip.frames, sample)
    assert dict(back.metainfo_items()) == dict(clip.metainfo_items())
    assert list(back.keys()) == list(clip.keys())
    for name, values in clip.items():
        assert torch.equal(back.get(name), values), name
    with pytest.raises(ValueError, match='do not fit 3 samples'):
        clip_sample(clip.frames[:2], sample)
    with pytest.raises(ValueError, match='resize both'):
        clip_sample(clip.frames[..., :-1], sample)


def test_tracked_frame_has_the_visible_objects_and_their_scores() -> None:
    logits = torch.from_numpy(some_masks()).float()[:, None] * 2 - 1
    result = VideoFrameResult(
        frame_index=6,
        object_ids=[5, 2, 8],
        mask_logits=logits,
        object_score_logits=torch.tensor([0.0, 4.0, float('nan')]),
        ious=torch.full((3,), 0.5),
    )
    sample: Any = to_det_sample(result, labels=[1, 2, 3], metainfo={'img_id': 4})
    tracks = sample.pred_track_instances
    assert tracks.instances_id.tolist() == [5, 2]
    assert tracks.labels.tolist() == [1, 2]
    assert tracks.scores.tolist() == pytest.approx([0.5, 0.982], abs=1e-3)
    assert (sample.frame_id, sample.img_id, sample.ori_shape) == (6, 4, SIZE)
    video: Any = track_sample([sample])
    assert video[0].video_length == video[0].ori_video_length == 1
    assert video[0].frame_id == 6
    with pytest.raises(ValueError, match='at least one frame'):
        track_sample([])
    result.object_ids[0] = 'cat'  # type: ignore[call-overload]  # SAM 2 takes names
    with pytest.raises(ValueError, match="'cat' has a name"):
        to_det_sample(result)
    with pytest.raises(TypeError, match='A dict cannot be converted'):
        to_det_sample({})  # type: ignore[arg-type]


def test_automatic_masks_become_instances() -> None:
    masks = some_masks()[:2]
    codes = encode_masks(masks)
    for segmentations in (list(masks), codes):
        automatic = [
            {'segmentation': each, 'predicted_iou': 0.25 * (index + 1)}
            for index, each in enumerate(segmentations)
        ]
        info = {'ori_shape': SIZE}
        sample: Any = to_det_sample(automatic, metainfo=info)
        instances = sample.pred_instances
        np.testing.assert_array_equal(instances.masks.numpy(), masks)
        assert instances.scores.tolist() == [0.25, 0.5]
    assert len(to_det_sample([], metainfo={'ori_shape': SIZE}).pred_instances) == 0


def test_higher_score_wins_a_pixel_and_the_earlier_mask_a_tie() -> None:
    masks = np.zeros((3, 4, 6), bool)
    masks[0, :, :3], masks[1, :, 2:5], masks[2, :, 1:4] = True, True, True
    sample: Any = seg_sample(
        masks, [7, 3, 5], [0.5, 0.5, 0.9], background=None, metainfo={'ori_shape': 1}
    )
    classes = sample.pred_sem_seg.data
    assert classes.dtype == torch.int64
    assert classes[0].tolist() == [[7, 5, 5, 5, 3, 255]] * 4
    empty: Any = seg_sample(masks[:0], [], [], background=0, metainfo={})
    assert empty.pred_sem_seg.data.tolist() == [[[0] * 6] * 4]
    with pytest.raises(ValueError, match='1 labels do not fit 3 objects'):
        seg_sample(masks, [7], [0.5, 0.5, 0.9], background=None, metainfo={})


def test_classes_of_a_label_map_are_objects_and_255_is_void() -> None:
    sample: Any = seg_sample(
        torch.zeros(0, 2, 3), [], [], background=0, metainfo={'ori_shape': (2, 3)}
    )
    sample.gt_sem_seg = PixelData(data=torch.tensor([[[0, 0, 4], [255, 4, 0]]]))
    labels = sample.gt_sem_seg.data[0].numpy()
    truth = frame_masks(sample, truth=True)
    assert truth.object_ids == (1, 5)
    np.testing.assert_array_equal(truth.masks[1], labels == 4)
    np.testing.assert_array_equal(truth.void, labels == 255)
    assert frame_masks(sample).object_ids == (1,)


def test_prompts_are_clean_and_carry_ids_frames_and_classes() -> None:
    boxes = [[-5, 2, 8, 9], [5, 3, 99, 10], [7, 7, 7, 9], [1, 1, 3, 3]]
    sample = det_sample(
        boxes=boxes,
        scores=[0.9, 0.8, 0.7, 0.2],
        labels=[1, 0, 0, 1],
        object_ids=[0, 4, 5, 6],
        metainfo={'ori_shape': SIZE, 'frame_id': 3},
    )
    with pytest.raises(ValueError, match='give id_offset'):
        object_prompts(sample)
    prompts = object_prompts(
        sample, threshold=0.5, id_offset=1, class_names=('cat', 'dog')
    )
    assert [each.object_id for each in prompts] == [1, 5]
    assert [each.box for each in prompts] == [(0, 2, 8, 9), (5, 3, 30, 10)]
    assert [each.category for each in prompts] == ['dog', 'cat']
    assert {each.frame_index for each in prompts} == {3}
    with_masks = det_sample(some_masks(), metainfo={'ori_shape': SIZE})
    prompts = object_prompts(with_masks, kind='masks')
    assert [each.object_id for each in prompts] == [1, 2]
    np.testing.assert_array_equal(prompts[1].mask, some_masks()[1])
    with pytest.raises(ValueError, match="kind is 'box'; give one of 'boxes', 'masks'"):
        object_prompts(with_masks, kind='box')  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='no gt_instances'):
        object_prompts(with_masks, truth=True)
    with pytest.raises(ValueError, match='needs masks or boxes'):
        det_sample(metainfo={})
    with pytest.raises(ValueError, match='2 scores do not fit 3 objects'):
        det_sample(some_masks(), scores=[1, 1], metainfo={})
