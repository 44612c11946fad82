"""Objects trained in groups give the gradients of all at once."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from golden_cases import GoldenCase, discover
from golden_clips import golden_batch
from golden_models import golden_model
from projects.sam2.models import SAM2
from projects.sam2.models.tracking.clip import losses_in_groups, split_objects
from projects.sam2.structures import ClipBatch, ClipTargets, ImageFeatures

FEATURES = ImageFeatures(
    embedding=torch.ones(1),
    position=torch.ones(1),
    high_res_8=torch.ones(1),
    high_res_4=torch.ones(1),
)
BATCH = ClipBatch(
    frames=torch.zeros(4, 3, 8, 8),
    num_frames=2,
    targets=ClipTargets(
        masks=torch.rand(2, 5, 8, 8) > 0.5,
        void=torch.rand(2, 5, 8, 8) > 0.5,
        annotated=torch.rand(2, 5) > 0.5,
    ),
    objects_per_clip=(3, 2),
    annotated_frames=frozenset({0, 1}),
    seeds=(3, 4),
)
CASES = discover('train_twovideos_v16')


def model_of(case: GoldenCase, *, with_points: bool) -> SAM2:
    """The small model, its clicks not drawn at random."""
    model = golden_model(case.spec['case']['salt']).double()
    model.prompt_simulator.click_method = 'center'
    model.prompt_simulator.point_probability = float(with_points)
    model.prompt_simulator.box_probability = 0.0
    return model


def batch_of(case: GoldenCase) -> ClipBatch:
    batch = golden_batch(case.spec['case'], case.arrays['masks_bits'])
    return replace(batch, frames=batch.frames.double())


def step(model: SAM2, batch: ClipBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Terms of the loss, and gradients by name."""
    terms = model.loss(batch)
    model.zero_grad(set_to_none=True)
    sum(terms.values(), torch.zeros(())).backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return terms, gradients


@pytest.mark.golden
@pytest.mark.parametrize(('size', 'with_points'), [(2, False), (1, True)])
@pytest.mark.parametrize('case', CASES)
def test_terms_and_gradients_equal_those_of_all_objects_at_once(
    case: GoldenCase, size: int, *, with_points: bool
) -> None:
    model, batch = model_of(case, with_points=with_points), batch_of(case)
    assert len(batch.video_of_object) > size
    terms, gradients = step(model, batch)
    model.objects_at_once = size
    grouped_terms, grouped = step(model, batch)
    torch.testing.assert_close(grouped_terms, terms)
    assert grouped.keys() == gradients.keys()
    largest = max(float(gradient.norm()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        error = float((grouped[name] - gradient).norm())
        assert error <= 1e-9 * float(gradient.norm()) + 1e-15 * largest, name


@pytest.mark.golden
@pytest.mark.parametrize('frozen', [False, True])
@pytest.mark.parametrize('case', CASES)
def test_no_graph_of_the_tracker_is_left(case: GoldenCase, *, frozen: bool) -> None:
    model, batch = model_of(case, with_points=False), batch_of(case)
    model.image_encoder.requires_grad_(not frozen)
    assert 'SoftplusBackward0' in nodes(model.loss(batch))
    model.objects_at_once = 1
    names = nodes(model.loss(batch))
    assert '_DifferentiatedBackward' in names
    assert 'SoftplusBackward0' not in names
    assert frozen != ('MaxPool2DWithIndicesBackward0' in names)


def nodes(terms: dict[str, Tensor]) -> set[str]:
    """Names of the nodes that terms come from."""
    seen: set[Node] = set()
    waiting = [term.grad_fn for term in terms.values()]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return {type(node).__name__ for node in seen}


def test_groups_hold_each_object_once_and_click_by_seeds_of_their_own() -> None:
    groups = list(split_objects(BATCH, 2))
    assert [len(group.video_of_object) for group in groups] == [2, 2, 1]
    for name in ('masks', 'void', 'annotated'):
        parts = [getattr(group.targets, name) for group in groups]
        assert torch.equal(torch.cat(parts, dim=1), getattr(BATCH.targets, name))
    joined = torch.cat([group.video_of_object for group in groups])
    assert torch.equal(joined, BATCH.video_of_object)
    assert groups[0].seeds == BATCH.seeds
    assert len({seed for group in groups for seed in group.seeds}) == 6


def test_terms_that_are_weighed_apart_are_refused() -> None:
    weight = nn.Parameter(torch.ones(()))
    groups = split_objects(BATCH, 3)
    terms = losses_in_groups(
        groups,
        FEATURES,
        [weight],
        lambda *_: {'a': weight, 'b': 2 * weight},
    )
    assert [term.item() for term in terms.values()] == [2, 4]
    (terms['a'] * 3 + terms['b'] * 3).backward(retain_graph=True)
    assert weight.grad is not None
    assert weight.grad.item() == 18
    with pytest.raises(ValueError, match='need equal weights'):
        terms['a'].backward()
