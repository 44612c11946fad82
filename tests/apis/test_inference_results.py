"""Records of masks: packed, as json, and as one picture of labels."""

import json
from dataclasses import replace

import numpy as np

from inference_cases import frame_of, nested_masks
from projects.sam2.apis import InferenceResult
from projects.sam2.ops import decode_masks


def test_smaller_object_is_seen_where_objects_overlap() -> None:
    for order, ids in ((slice(None), (7, 300)), (slice(None, None, -1), (300, 7))):
        labels = frame_of(nested_masks()[order], ids).label_map()
        assert labels[15, 15] == 7
        assert labels[30, 30] == 300
        assert labels[0, 0] == 0


def test_json_holds_masks_that_decode_to_the_same() -> None:
    masks = nested_masks()
    frame = replace(frame_of(masks, (1, 2), index=3), ious=(0.25, float('nan')))
    result = InferenceResult(name='clip', size=(48, 80), frames=(frame.packed(),))
    read = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert (read['name'], read['height'], read['width']) == ('clip', 48, 80)
    (one,) = read['frames']
    assert one['frame_index'] == 3
    assert [(o['id'], o['iou']) for o in one['objects']] == [(1, 0.25), (2, None)]
    decoded = decode_masks([o['segmentation'] for o in one['objects']])
    assert np.array_equal(decoded, masks)


def test_frame_without_an_object_has_no_mask() -> None:
    packed = frame_of(nested_masks()[:0], ()).packed()
    assert not packed.masks
    assert not packed.object_ids
