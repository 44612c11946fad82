"""The prompt encoder against the golden cases."""

import pytest
import torch

from golden_cases import GoldenCase, assert_close, assert_exact, discover
from golden_models import fill_released
from projects.sam2.models.prompt_encoder import PromptEmbeddings, SAM2PromptEncoder
from projects.sam2.structures import PointPrompt

SIZE = (16, 16)
TOLERANCE = 1e-4


def _encoder(case: GoldenCase) -> SAM2PromptEncoder:
    encoder = SAM2PromptEncoder(embed_dims=64)
    fill_released(encoder, case.spec['salt'], 'prompt_encoder.')
    return encoder


def _points(case: GoldenCase, num_points: int | None = None) -> PointPrompt:
    return PointPrompt(
        coords=torch.from_numpy(case.arrays['in_points'])[:, :num_points],
        labels=torch.from_numpy(case.arrays['in_labels'])[:, :num_points],
    )


def _box(case: GoldenCase) -> PointPrompt:
    corners = torch.from_numpy(case.arrays['in_boxes']).unflatten(1, (2, 2))
    labels = torch.tensor([[2, 3]], dtype=torch.int32).expand(len(corners), -1)
    return PointPrompt(coords=corners, labels=labels)


def _encode(
    case: GoldenCase, points: PointPrompt | None, *, mask: bool
) -> PromptEmbeddings:
    num_objects = len(case.arrays['in_points'])
    shape = (num_objects, 1, 64, 64)
    encoded: PromptEmbeddings = _encoder(case)(
        points=points,
        mask_logits=case.input('mask', shape, 5.0) if mask else None,
        embedding_size=SIZE,
        num_objects=num_objects,
    )
    return encoded


golden = pytest.mark.golden
each_case = pytest.mark.parametrize('case', discover('prompt_*'))


@golden
@each_case
def test_points_of_every_label_are_embedded_and_padded(case: GoldenCase) -> None:
    encoded = _encode(case, _points(case), mask=False)
    assert_close(encoded.sparse, case.arrays['pts_sparse'], TOLERANCE, 'sparse')
    crop = encoded.dense[..., :2, :2]
    assert_close(crop, case.arrays['pts_dense'], TOLERANCE, 'dense')
    assert encoded.dense.shape == (len(crop), 64, *SIZE)


@golden
@each_case
def test_a_box_is_two_points(case: GoldenCase) -> None:
    encoder, box = _encoder(case), _box(case)
    alone = encoder.embed_points(box, SIZE)
    assert_close(alone, case.arrays['boxes_sparse'], TOLERANCE, 'box')
    after = encoder.embed_points(_points(case).followed_by(box), SIZE)
    assert_close(after, case.arrays['pts_boxes_sparse'], TOLERANCE, 'points and box')


@golden
@each_case
def test_masks_are_embedded_densely(case: GoldenCase) -> None:
    encoded = _encode(case, None, mask=True)
    assert_close(encoded.dense, case.arrays['mask_dense'], TOLERANCE, 'dense')
    assert_exact([*encoded.sparse.shape], [*case.arrays['mask_sparse_shape']], 'shape')


@golden
@each_case
def test_points_beside_a_mask_are_padded_as_well(case: GoldenCase) -> None:
    encoded = _encode(case, _points(case, 2), mask=True)
    assert_close(encoded.sparse, case.arrays['pts_mask_sparse'], TOLERANCE, 'sparse')


@golden
@each_case
def test_dense_position_uses_the_frequencies_of_points(case: GoldenCase) -> None:
    position = _encoder(case).dense_position(SIZE)
    assert_close(position, case.arrays['dense_pe'], TOLERANCE, 'dense_pe')


def test_a_padding_point_carries_no_position() -> None:
    torch.manual_seed(0)
    encoder = SAM2PromptEncoder(embed_dims=8)
    padding = PointPrompt(
        coords=torch.tensor([[[0.0, 0.0], [90.0, 40.0]]]),
        labels=torch.full((1, 2), -1, dtype=torch.int32),
    )
    embedded = encoder.embed_points(padding, (4, 8))
    expected = encoder.padding_point_embedding.weight.expand(2, -1)
    torch.testing.assert_close(embedded[0], expected)


def test_coordinates_are_shares_of_width_and_height() -> None:
    torch.manual_seed(0)
    encoder = SAM2PromptEncoder(embed_dims=8)
    # The last pixel of a 64 x 128 frame, and the same share of a 64 x 64 one.
    wide = _point(127.5 - 0.5, 63.5 - 0.5)
    square = _point(63.75 - 0.5, 63.5 - 0.5)
    torch.testing.assert_close(
        encoder.embed_points(wide, (4, 8)), encoder.embed_points(square, (4, 4))
    )


def _point(x: float, y: float) -> PointPrompt:
    return PointPrompt(
        coords=torch.tensor([[[x, y]]]), labels=torch.ones(1, 1, dtype=torch.int32)
    )


def test_masks_of_another_size_are_refused() -> None:
    encoder = SAM2PromptEncoder(embed_dims=8)
    with pytest.raises(ValueError, match=r'\(16, 16\).*\(64, 64\); resize'):
        encoder(
            points=None,
            mask_logits=torch.zeros(1, 1, 64, 64),
            embedding_size=(4, 4),
            num_objects=1,
        )


@pytest.mark.parametrize('label', [0, 1, 2, 3])
def test_a_label_teaches_its_own_embedding_alone(label: int) -> None:
    encoder = SAM2PromptEncoder(embed_dims=8)
    point = PointPrompt(
        coords=torch.zeros(1, 1, 2),
        labels=torch.tensor([[label]], dtype=torch.int32),
    )
    encoder.embed_points(point, (4, 4)).sum().backward()
    for index in range(4):
        gradient = encoder.get_parameter(f'point_embeddings.{index}.weight').grad
        assert gradient is not None
        assert gradient.any() == (index == label)


def test_objects_without_a_mask_share_one_learned_embedding() -> None:
    encoder = SAM2PromptEncoder(embed_dims=8)
    encoded = encoder(
        points=None, mask_logits=None, embedding_size=(2, 3), num_objects=4
    )
    assert encoded.dense.shape == (4, 8, 2, 3)
    everywhere = encoder.no_mask_embedding.weight[0]
    assert (encoded.dense == everywhere[:, None, None]).all()


def test_caller_keeps_its_points() -> None:
    encoder = SAM2PromptEncoder(embed_dims=8)
    points = _point(3.0, 4.0)
    coords = points.coords.clone()
    encoder(points=points, mask_logits=None, embedding_size=(4, 4), num_objects=1)
    assert torch.equal(points.coords, coords)
    assert points.num_points == 1
