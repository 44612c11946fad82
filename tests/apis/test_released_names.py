"""Names, arguments and semantics are those of SAM 2's release."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bridge_models import assert_same_weights
from projects.sam2 import apis
from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
)
from projects.sam2.apis.image_predictor import preprocess_image
from projects.sam2.checkpoints import map_to_released
from toy_videos import (
    SIDE,
    SIZE,
    assert_same_results,
    click,
    toy_frames,
    toy_model,
    track,
)

REQUIRED = inspect.Parameter.empty
BUILDER = {
    'config_file': REQUIRED,
    'ckpt_path': None,
    'device': None,  # 'cuda' in the release; here if there is a GPU
    'mode': 'eval',
    'hydra_overrides_extra': (),
    'apply_postprocessing': True,
}
PREDICTION = {
    'multimask_output': True,
    'return_logits': False,
    'normalize_coords': True,
}
OBJECT = {'inference_state': REQUIRED, 'frame_idx': REQUIRED, 'obj_id': REQUIRED}
POINTS = OBJECT | {
    'points': None,
    'labels': None,
    'clear_old_points': True,
    'normalize_coords': True,
    'box': None,
}
RELEASED: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (apis.build_sam2, BUILDER),
    (apis.build_sam2_video_predictor, BUILDER | {'vos_optimized': False}),
    (apis.build_sam2_hf, {'model_id': REQUIRED}),
    (apis.build_sam2_video_predictor_hf, {'model_id': REQUIRED}),
    (
        SAM2ImagePredictor,
        {
            'sam_model': REQUIRED,
            'mask_threshold': 0.0,
            'max_hole_area': 0.0,
            'max_sprinkle_area': 0.0,
        },
    ),
    (SAM2ImagePredictor.from_pretrained, {'model_id': REQUIRED}),
    (SAM2ImagePredictor.set_image, {'image': REQUIRED}),
    (SAM2ImagePredictor.set_image_batch, {'image_list': REQUIRED}),
    (
        SAM2ImagePredictor.predict,
        dict.fromkeys(('point_coords', 'point_labels', 'box', 'mask_input'))
        | PREDICTION,
    ),
    (
        SAM2ImagePredictor.predict_batch,
        dict.fromkeys(
            (
                'point_coords_batch',
                'point_labels_batch',
                'box_batch',
                'mask_input_batch',
            )
        )
        | PREDICTION,
    ),
    (SAM2ImagePredictor.get_image_embedding, {}),
    (SAM2ImagePredictor.reset_predictor, {}),
    (SAM2VideoPredictor.from_pretrained, {'model_id': REQUIRED}),
    (
        SAM2VideoPredictor.init_state,
        {
            'video_path': REQUIRED,
            'offload_video_to_cpu': False,
            'offload_state_to_cpu': False,
            'async_loading_frames': False,
        },
    ),
    (SAM2VideoPredictor.add_new_points_or_box, POINTS),
    (SAM2VideoPredictor.add_new_points, POINTS),
    (SAM2VideoPredictor.add_new_mask, OBJECT | {'mask': REQUIRED}),
    (SAM2VideoPredictor.propagate_in_video_preflight, {'inference_state': REQUIRED}),
    (
        SAM2VideoPredictor.propagate_in_video,
        {
            'inference_state': REQUIRED,
            'start_frame_idx': None,
            'max_frame_num_to_track': None,
            'reverse': False,
        },
    ),
    (SAM2VideoPredictor.clear_all_prompts_in_frame, OBJECT | {'need_output': True}),
    (
        SAM2VideoPredictor.remove_object,
        {
            'inference_state': REQUIRED,
            'obj_id': REQUIRED,
            'strict': False,
            'need_output': True,
        },
    ),
    (SAM2VideoPredictor.reset_state, {'inference_state': REQUIRED}),
    (
        SAM2AutomaticMaskGenerator,
        {
            'model': REQUIRED,
            'points_per_side': 32,
            'points_per_batch': 64,
            'pred_iou_thresh': 0.8,
            'stability_score_thresh': 0.95,
            'stability_score_offset': 1.0,
            'mask_threshold': 0.0,
            'box_nms_thresh': 0.7,
            'crop_n_layers': 0,
            'crop_nms_thresh': 0.7,
            'crop_overlap_ratio': 512 / 1500,
            'crop_n_points_downscale_factor': 1,
            'point_grids': None,
            'min_mask_region_area': 0,
            'output_mode': 'binary_mask',
            'use_m2m': False,
            'multimask_output': True,
        },
    ),
    (SAM2AutomaticMaskGenerator.from_pretrained, {'model_id': REQUIRED}),
    (SAM2AutomaticMaskGenerator.generate, {'image': REQUIRED}),
]


@pytest.mark.parametrize(
    ('function', 'released'),
    [pytest.param(*row, id=row[0].__qualname__) for row in RELEASED],
)
def test_positional_arguments_are_those_of_the_release(
    function: Callable[..., Any], released: dict[str, Any]
) -> None:
    parameters = inspect.signature(function).parameters.values()
    positional = {
        p.name: p.default
        for p in parameters
        if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and p.name != 'self'
    }
    assert list(positional.items()) == list(released.items())


@pytest.fixture(scope='module')
def predictor() -> SAM2ImagePredictor:
    """Of the small model, with an image."""
    predictor = SAM2ImagePredictor(toy_model())
    predictor.set_image(toy_frames(1)[0])
    return predictor


PROMPTS = [
    pytest.param([[10, 20], [60, 9]], [1, 0], None, id='points'),
    pytest.param(None, None, [-0.5, 3, 40, 30], id='box'),
    pytest.param([[[9, 9]], [[40, 9]]], [[1], [1]], None, id='objects'),
    pytest.param([[20, 9]], [0], [2, 3, 40, 30], id='box and point'),
    pytest.param(None, None, [[2, 3, 40, 30], [1, 1, 9, 9]], id='boxes'),
]


@pytest.mark.parametrize(('points', 'labels', 'box'), PROMPTS)
@pytest.mark.parametrize('multimask', [True, False])
def test_prep_prompts_and_predict_equal_the_public_call(
    predictor: SAM2ImagePredictor,
    points: Any,
    labels: Any,
    box: Any,
    *,
    multimask: bool,
) -> None:
    how = {'multimask_output': multimask, 'return_logits': True}
    expected = predictor.predict(points, labels, box, **how)
    mask, coords, kinds, boxes = predictor._prep_prompts(
        points,
        labels,
        box,
        expected[2][..., :1, :, :].reshape(-1, 1, 8, 8),
        normalize_coords=True,
    )
    assert mask is not None
    answer = predictor._predict(coords, kinds, boxes, None, **how)
    for ours, value in zip(answer, expected, strict=True):
        np.testing.assert_allclose(
            ours.numpy().reshape(value.shape), value, rtol=1e-4, atol=1e-4
        )
    again = predictor._predict(coords, kinds, boxes, mask, **how)
    same = predictor.predict(points, labels, box, mask, **how)
    np.testing.assert_allclose(
        again[0].numpy().reshape(same[0].shape), same[0], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(('points', 'labels', 'box'), PROMPTS)
def test_parts_of_the_model_are_called_as_in_the_release(
    predictor: SAM2ImagePredictor,
    points: Any,
    labels: Any,
    box: Any,
) -> None:
    mask, coords, kinds, boxes = predictor._prep_prompts(
        points, labels, box, None, normalize_coords=True
    )
    model = predictor.model
    if boxes is not None and coords is not None and kinds is not None:
        # As in the release's own predictor: the corners come before the points.
        corners = torch.tensor([[2, 3]], dtype=torch.int32)
        coords = torch.cat([boxes, coords], dim=1)
        kinds, boxes = torch.cat([corners, kinds], dim=1), None
    elif boxes is not None:
        coords, kinds = boxes, torch.tensor([[2, 3]]).expand(len(boxes), -1)
        boxes = None
    assert coords is not None
    assert kinds is not None
    features = predictor._features
    assert features is not None
    with torch.no_grad():
        sparse, dense = model.sam_prompt_encoder(
            points=(coords, kinds), boxes=boxes, masks=mask
        )
        low_res, ious, _, scores = model.sam_mask_decoder(
            image_embeddings=features['image_embed'][-1].unsqueeze(0),
            image_pe=model.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            repeat_image=len(coords) > 1,
            high_res_features=[
                level[-1].unsqueeze(0) for level in features['high_res_feats']
            ],
        )
    masks = predictor._transforms.postprocess_masks(low_res, predictor._orig_hw[-1])
    expected = predictor.predict(
        points, labels, box, multimask_output=False, return_logits=True
    )
    np.testing.assert_allclose(
        masks.numpy().reshape(expected[0].shape), expected[0], rtol=1e-4, atol=1e-4
    )
    assert ious.shape == scores.shape == (len(coords), 1)


def test_one_image_for_several_objects_must_be_repeated(
    predictor: SAM2ImagePredictor,
) -> None:
    model = predictor.model
    sparse, dense = model.sam_prompt_encoder(boxes=torch.ones(2, 4))
    with pytest.raises(ValueError, match='set repeat_image=True'):
        model.sam_mask_decoder(
            predictor.get_image_embedding(),
            model.sam_prompt_encoder.get_dense_pe(),
            sparse,
            dense,
            multimask_output=False,
            repeat_image=False,
        )


def test_box_needs_no_padding_point(
    predictor: SAM2ImagePredictor,
) -> None:
    encoder = predictor.model.sam_prompt_encoder
    boxes = torch.tensor([[2.0, 3.0, 20.0, 25.0]])
    points = torch.tensor([[[4.0, 5.0]]]), torch.tensor([[1]])
    assert [encoder(boxes=boxes)[0].shape[1], encoder(points=points)[0].shape[1]] == [
        2,
        2,
    ]
    both, _ = encoder(points=points, boxes=boxes)
    assert torch.equal(both[:, 1:], encoder(boxes=boxes)[0])
    assert torch.equal(both[:, :1], encoder(points=points)[0][:, :1])
    nothing, dense = encoder()
    assert nothing.shape[:2] == (1, 0)
    assert dense.shape == (1, 64, 2, 2)


def test_features_may_be_saved_and_set_again(predictor: SAM2ImagePredictor) -> None:
    other = SAM2ImagePredictor(predictor.model)
    with pytest.raises(RuntimeError, match='No image is set'):
        other.predict([[9, 9]], [1])
    other._features = predictor._features
    other._orig_hw = predictor._orig_hw
    other._is_image_set = predictor._is_image_set
    expected = predictor.predict([[9, 9]], [1])
    for ours, value in zip(other.predict([[9, 9]], [1]), expected, strict=True):
        assert np.array_equal(ours, value)


def test_transforms_scale_images_and_prompts_to_the_model(
    predictor: SAM2ImagePredictor,
) -> None:
    transforms = predictor._transforms
    image = toy_frames(1)[0]
    assert torch.equal(
        transforms.forward_batch([image, image])[1],
        preprocess_image(predictor.model.data_preprocessor, image)[0],
    )
    height, width = SIZE
    coords = torch.tensor([[width / 2, height], [-width / 2, 0.0]])
    moved = transforms.transform_coords(coords, normalize=True, orig_hw=SIZE)
    assert moved.tolist() == [[SIDE / 2, SIDE], [-SIDE / 2, 0]]
    boxes = transforms.transform_boxes(torch.tensor([0.25, 0, 1, 0.5]))
    assert boxes.tolist() == [[[SIDE / 4, 0], [SIDE, SIDE / 2]]]
    with pytest.raises(ValueError, match='needs orig_hw'):
        transforms.transform_coords(coords, normalize=True)
    predictor.mask_threshold = 0.25
    assert predictor._transforms.mask_threshold == 0.25
    predictor.mask_threshold = 0.0


def test_predictors_share_the_model_of_a_predictor() -> None:
    video = SAM2VideoPredictor(toy_model())
    assert SAM2ImagePredictor(video).model is video.model
    generator = SAM2AutomaticMaskGenerator(video, 2)  # type: ignore[arg-type]
    assert generator.model is generator.predictor.model is video.model
    assert generator.predictor is generator.predictor
    assert SAM2VideoPredictor(video).model is video.model
    with pytest.raises(TypeError, match='The model is a str; give what build_sam2'):
        SAM2ImagePredictor('sam2.pt')  # type: ignore[arg-type]


def test_video_predictor_is_used_like_its_model() -> None:
    video: Any = SAM2VideoPredictor(toy_model())  # knows its model's names as it runs
    assert video.image_size == SIDE
    assert video.eval().float().requires_grad_(requires_grad=False) is video
    assert not any(weight.requires_grad for weight in video.parameters())
    assert video.half().to(torch.float32).to('cpu', torch.float64) is video
    assert {weight.dtype for weight in video.parameters()} == {torch.float64}
    assert video.image_encoder.trunk is video.model.image_encoder.backbone
    assert video.memory_attention is video.model.tracker.memory_attention
    assert not video.train().training  # all of it is frozen
    assert video.requires_grad_().train().training
    assert dict(video.named_parameters()).keys() <= video.model.state_dict().keys()
    with pytest.raises(AttributeError, match=r"'_track_step', nor has its model; use"):
        getattr(video, '_track_step')  # noqa: B009
    with pytest.raises(AttributeError, match=r"'speed', nor has its model; docs/tut"):
        getattr(video, 'speed')  # noqa: B009
    with pytest.raises(AttributeError, match=r"SAM2 has no '_track_step'; use init_"):
        getattr(video.model, '_track_step')  # noqa: B009
    masks = torch.tensor([[[[1.0, -2.0]]], [[[0.5, 3.0]]]])
    apart = video._apply_non_overlapping_constraints(masks)
    assert apart.flatten().tolist() == [1, -10, -10, 3]


def test_released_options_are_set_on_the_model() -> None:
    video: Any = SAM2VideoPredictor(toy_model())
    bank = video.model.tracker.memory_bank
    assert video.max_cond_frames_in_attn == -1
    video.max_cond_frames_in_attn = 4
    video.memory_temporal_stride_for_eval = 3
    video.model.max_obj_ptrs_in_encoder = 5
    video.only_obj_ptrs_in_the_past_for_eval = False
    assert (bank.max_conditioning_frames, bank.stride, bank.max_pointers) == (4, 3, 5)
    assert bank.future_pointers is True
    assert video.only_obj_ptrs_in_the_past_for_eval is False
    video.non_overlap_masks_for_mem_enc = True
    video.binarize_mask_from_pts_for_mem_enc = False
    assert video.model.tracker.non_overlapping_memories is True
    assert video.model.tracker.binary_clicked_memories is False
    encoder = torch.nn.Identity()
    video.image_encoder = encoder
    assert video.model.image_encoder is encoder
    video.note = 'mine'
    assert video.note == 'mine'
    assert not hasattr(video.model, 'note')
    compiled = torch.compile(video.model, backend='eager')
    assert SAM2ImagePredictor(compiled).model is video.model  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('num_maskmem', 3, r"hydra_overrides_extra=\['\+\+model\.num_maskmem=3'\]"),
        ('image_size', 512, r'build_sam2\(image_size=512\)'),
        ('device', 'cuda:0', r"call \.to\('cuda:0'\)"),
        ('hidden_dim', 8, 'can only be read; set the channels of all parts in the'),
        ('mem_dim', 8, 'can only be read; set the channels of the memory in the'),
        ('multimask_max_pt_num', 5, 'is always 1 here and cannot be 5'),
        ('sigmoid_scale_for_mem_enc', 1.0, r'is always 20\.0 here'),
    ],
)
def test_setting_a_fixed_name_is_an_error_with_a_remedy(
    name: str, value: object, message: str
) -> None:
    video = SAM2VideoPredictor(toy_model())
    for target in (video, video.model):
        with pytest.raises(AttributeError, match=f'^{name} .*{message}'):
            setattr(target, name, value)
    setattr(video, 'multimask_max_pt_num', 1)  # noqa: B010  what it is anyway


def test_weights_are_replaced_under_their_released_names() -> None:
    video: Any = SAM2VideoPredictor(toy_model())
    tracker = video.model.tracker
    embedding = nn.Parameter(torch.zeros_like(tracker.no_memory_embedding))
    video.no_mem_embed = embedding
    assert tracker.no_memory_embedding is embedding
    times = nn.Parameter(torch.zeros_like(tracker.temporal_embedding))
    video.model.maskmem_tpos_enc = times
    assert tracker.temporal_embedding is times
    video.training = False
    assert not video.model.training


def test_model_loads_weights_by_their_released_names() -> None:
    source, target = SAM2VideoPredictor(toy_model()), SAM2VideoPredictor(toy_model())
    released = source.state_dict()
    assert 'sam_mask_decoder.iou_token.weight' in released
    with torch.no_grad():
        for weight in target.parameters():
            weight.zero_()
    target.load_state_dict(released)
    assert_same_weights(target.model.state_dict(), source.model.state_dict())
    loaded = target.model.load_state_dict(released | {'x': torch.ones(1)}, strict=False)
    assert (loaded.missing_keys, loaded.unexpected_keys) == ([], ['x'])
    decoder = target.model.sam_mask_decoder
    own = decoder.state_dict()
    assert {f'sam_mask_decoder.{key}' for key in own} <= released.keys()
    decoder.load_state_dict({key: value + 1 for key, value in own.items()})
    (weight,) = target.model.mask_decoder.iou_token.parameters()
    assert torch.equal(weight, own['iou_token.weight'])
    assert not torch.equal(weight, released['sam_mask_decoder.iou_token.weight'])


def test_released_part_shares_state_with_ours() -> None:
    model = toy_model()
    model.sam_mask_decoder.train(mode=False)
    assert not model.mask_decoder.training
    model.sam_mask_decoder.train()
    assert model.mask_decoder.training
    ours = {id(weight) for weight in model.prompt_encoder.parameters()}
    assert {id(weight) for weight in model.sam_prompt_encoder.parameters()} == ours
    model.sam_mask_decoder.dynamic_multimask_via_stability = False
    assert model.mask_decoder.stability_selection is False
    assert model.sam_mask_decoder.iou_head is model.mask_decoder.iou_head
    before = set(model.state_dict())
    assert model.sam_prompt_encoder is not None
    assert set(model.state_dict()) == before


def test_weights_and_sizes_have_their_released_names() -> None:
    model = toy_model()
    released = map_to_released(model.state_dict())
    for name in ('no_mem_embed', 'maskmem_tpos_enc'):
        assert torch.equal(getattr(model, name), released[name])
    assert model.obj_ptr_proj.state_dict().keys() == {
        key.removeprefix('obj_ptr_proj.')
        for key in released
        if key.startswith('obj_ptr_proj.')
    }
    assert (model.num_maskmem, model.hidden_dim, model.mem_dim) == (7, 64, 16)
    encoder, decoder = model.sam_prompt_encoder, model.sam_mask_decoder
    assert encoder.input_image_size == (SIDE, SIDE)
    assert encoder.image_embedding_size == (SIDE // 16, SIDE // 16)
    assert encoder.mask_input_size == (SIDE // 4, SIDE // 4)
    assert encoder.embed_dim == 64
    for name, part in (('conv_s0', decoder.conv_s0), ('conv_s1', decoder.conv_s1)):
        weight = released[f'sam_mask_decoder.{name}.weight']
        assert torch.equal(part.state_dict()['weight'], weight)


def test_images_are_encoded_as_in_the_release(predictor: SAM2ImagePredictor) -> None:
    model = predictor.model
    out = model.forward_image(
        preprocess_image(model.data_preprocessor, toy_frames(1)[0])
    )
    _, flat, places, sizes = model._prepare_backbone_features(out)
    assert sizes == [(8, 8), (4, 4), (2, 2)]
    assert [level.shape[:2] for level in flat] == [(64, 1), (16, 1), (4, 1)]
    assert places[-1].shape == flat[-1].shape
    features = predictor._features
    assert features is not None
    embedding = flat[-1] + model.no_mem_embed
    shaped = embedding.permute(1, 2, 0).view_as(features['image_embed'])
    torch.testing.assert_close(shaped, features['image_embed'])


class Counting(nn.Module):
    """A part of the model that counts its calls."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.count = part, 0

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """As the part."""
        self.count += 1
        return self.part(*inputs, **options)


def test_part_is_replaced_under_its_released_name() -> None:
    predictor = SAM2VideoPredictor(toy_model())
    state = predictor.init_state(toy_frames(3))
    click(predictor, state)
    expected = track(predictor, state)
    names = len(predictor.model.state_dict())
    for name in ('memory_attention', 'memory_encoder', 'obj_ptr_proj'):
        setattr(predictor.model, name, Counting(getattr(predictor.model, name)))
    state = predictor.init_state(toy_frames(3))
    click(predictor, state)
    assert_same_results(track(predictor, state), expected)
    for name in ('memory_attention', 'memory_encoder', 'obj_ptr_proj'):
        assert getattr(predictor, name).count >= 2
    assert len(predictor.model.state_dict()) == names


@pytest.mark.parametrize('name', ['mask_decoder', 'prompt_encoder'])
def test_change_that_a_view_would_lose_is_an_error(name: str) -> None:
    model = toy_model()
    view = getattr(model, f'sam_{name}')
    with pytest.raises(TypeError, match=f'cannot be replaced; set model.{name}'):
        setattr(model, f'sam_{name}', view)
    with pytest.raises(TypeError, match=f'cannot be replaced; use model.{name}'):
        view.forward = view.forward
    for kind in ('forward', 'forward_pre', 'full_backward'):
        with pytest.raises(TypeError, match='hooks on it are never called'):
            getattr(view, f'register_{kind}_hook')(print)
    assert not any(key.startswith('sam_') for key in model.state_dict())


def test_model_of_a_video_predictor_may_be_exchanged() -> None:
    predictor, other = SAM2VideoPredictor(toy_model()), toy_model()
    with torch.no_grad():
        other.mask_decoder.object_score_head.layers[-1].bias -= 100.0  # sees nothing
    predictor.model = torch.compile(other, backend='eager')  # type: ignore[assignment]
    assert predictor.model is other
    shown = click(predictor, predictor.init_state(toy_frames(1)))
    assert (shown.object_score_logits < 0).all()
