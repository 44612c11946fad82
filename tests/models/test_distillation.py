"""A student learns the features of its teacher, and stays a SAM 2 in all else."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import get_state_dict
from torch import Tensor

from engine_toys import differences
from projects.sam2.apis import load_model_config
from projects.sam2.models import SAM2, SAM2Distillation
from projects.sam2.models.tracking.frame import SAMHeads
from projects.sam2.structures import ClipBatch, ClipTargets

FRAMES, OBJECTS, SIDE = 3, (2, 1), 64
IMAGE = {'type': 'SAM2FeatureLoss', 'feature': 'image'}
MEMORY = {'type': 'SAM2FeatureLoss', 'feature': 'memory'}


def config(name: str = 'sam2_1_mini_student', side: int = SIDE) -> dict[str, Any]:
    """Config of a small model, whose clicks are not drawn at random."""
    model: dict[str, Any] = load_model_config(f'_base_/models/{name}').model.to_dict()
    model['data_preprocessor']['image_size'] = (side, side)
    model['prompt_simulator'].update(
        point_probability=1.0,
        box_probability=0.0,
        click_method='center',
        num_corrections=2,
    )
    return model


def weights(folder: Path, model: dict[str, Any]) -> str:
    """Write random weights of a model."""
    torch.manual_seed(5)
    path = folder / 'teacher.pth'
    torch.save({'state_dict': MODELS.build(model).state_dict()}, path)
    return str(path)


@pytest.fixture
def teacher(tmp_path: Path) -> dict[str, Any]:
    """Arguments of a student with a larger teacher."""
    model = config('sam2_1_mini')
    return {'teacher': model, 'teacher_checkpoint': weights(tmp_path, model)}


def student(**arguments: Any) -> SAM2Distillation:
    """A student with random weights, always the same."""
    torch.manual_seed(0)
    arguments = config() | {'type': 'SAM2Distillation'} | arguments
    model: SAM2Distillation = MODELS.build(arguments)
    model.double().train()
    return model


def without_teacher() -> SAM2:
    """The same student as a SAM 2."""
    torch.manual_seed(0)
    model: SAM2 = MODELS.build(config())
    return model.double().train()


def clips(num_frames: int = FRAMES) -> ClipBatch:
    """Two clips of squares that move."""
    frames = torch.rand(
        len(OBJECTS) * num_frames,
        3,
        SIDE,
        SIDE,
        generator=torch.Generator().manual_seed(1),
    )
    masks = torch.zeros(num_frames, sum(OBJECTS), SIDE, SIDE, dtype=torch.bool)
    for frame in range(num_frames):
        for obj in range(sum(OBJECTS)):
            start = 4 + 12 * obj + 3 * frame
            masks[frame, obj, start : start + 16, start : start + 16] = True
    return ClipBatch(
        frames=frames.double(),
        num_frames=num_frames,
        targets=ClipTargets(
            masks=masks,
            void=None,
            annotated=torch.ones(masks.shape[:2], dtype=torch.bool),
        ),
        objects_per_clip=OBJECTS,
        annotated_frames=frozenset(range(num_frames)),
        seeds=(1, 2),
    )


def gradients(terms: dict[str, Tensor], model: torch.nn.Module) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    sum(terms.values(), torch.zeros(())).backward()
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def outputs_of(module: torch.nn.Module) -> list[Tensor]:
    """Collect the outputs of a module, also those to come."""
    outputs: list[Tensor] = []
    module.register_forward_hook(lambda _m, _args, output: outputs.append(output))
    return outputs


def test_losses_are_the_mean_squared_errors_of_both_features(
    teacher: dict[str, Any],
) -> None:
    model = student(**teacher, feature_losses=[IMAGE | {'weight': 3.0}, MEMORY])
    pairs = [
        (
            outputs_of(model.get_submodule(part)),
            outputs_of(model.teacher.get_submodule(part)),
        )
        for part in ('image_encoder', 'tracker.memory_attention')
    ]
    terms = model.loss(clips())
    (image, taught_image), (memory, taught_memory) = pairs
    assert len(memory) == len(taught_memory) == FRAMES - 1
    literal = (image[0][2] - taught_image[0][2]).square().mean()
    torch.testing.assert_close(terms['loss_image_features'], 3 * literal)
    errors = [
        (a - b).square().mean() for a, b in zip(memory, taught_memory, strict=True)
    ]
    literal = torch.stack(errors).mean()
    torch.testing.assert_close(terms['loss_memory_features'], literal)


def test_teacher_gets_the_clicks_of_the_student_and_has_its_own_masks(
    teacher: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = student(**teacher)
    points: dict[int, list[tuple[Tensor, Tensor]]] = {}
    decode = SAMHeads.decode

    def recorded(heads: SAMHeads, **arguments: Any) -> Any:
        step = decode(heads, **arguments)
        if arguments['points'] is not None:
            calls = points.setdefault(id(heads.tracker), [])
            calls.append((arguments['points'].coords, step.mask_logits))
        return step

    monkeypatch.setattr(SAMHeads, 'decode', recorded)
    model.loss(clips())
    mine, theirs = points[id(model.tracker)], points[id(model.teacher.tracker)]
    assert len(mine) == 3  # a click and two corrections
    for (own, own_logits), (taught, taught_logits) in zip(mine, theirs, strict=True):
        assert own.equal(taught)
        assert not own_logits.allclose(taught_logits)


def test_task_is_that_of_the_student_alone(teacher: dict[str, Any]) -> None:
    losses = [IMAGE | {'weight': 0.0}, MEMORY | {'weight': 0.0}]
    model, alone = student(**teacher, feature_losses=losses), without_teacher()
    torch.manual_seed(3)
    expected = gradients(alone.loss(clips()), alone)
    torch.manual_seed(3)
    actual = gradients(model.loss(clips()), model)
    assert actual.keys() >= expected.keys()
    for name, gradient in expected.items():
        assert actual[name].equal(gradient), name


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(tmp_path: Path) -> None:
    model = student(teacher=config(), teacher_checkpoint=weights(tmp_path, config()))
    model.load_state_dict(model.teacher.state_dict())
    terms = model.loss(clips())
    assert terms['loss_image_features'].item() < 1e-25
    assert terms['loss_memory_features'].item() < 1e-25


def test_groups_of_objects_learn_the_same(teacher: dict[str, Any]) -> None:
    model = student(**teacher)
    terms = model.loss(clips())
    expected = gradients(terms, model)
    model.objects_at_once = 2
    grouped = model.loss(clips())
    torch.testing.assert_close(grouped, terms)
    for name, gradient in gradients(grouped, model).items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_checkpoints_and_copies_are_those_of_the_student(
    teacher: dict[str, Any], tmp_path: Path
) -> None:
    projections = [IMAGE | {'projection': (64, 64)}, MEMORY]
    model = student(**teacher, feature_losses=projections)
    alone = without_teacher()
    assert model.state_dict().keys() == alone.state_dict().keys()
    path = str(tmp_path / 'student.pth')
    # MMEngine's Runner walks through the modules itself.
    torch.save({'state_dict': get_state_dict(model)}, path)
    for loaded in (alone, model):
        load_checkpoint(loaded, path, strict=True)
    average = ExponentialMovingAverage(model)
    model.load_state_dict(average.module.state_dict())
    names = [key.removeprefix('module.') for key in average.state_dict()]
    assert set(names) == {'steps', *alone.state_dict()}
    assert copy.deepcopy(model).teacher is model.teacher
    names = [name for name, _ in model.named_parameters() if 'teacher' in name]
    assert not names
    trained = [p for p in model.teacher.parameters() if p.requires_grad]
    assert not trained
    # What a run keeps beside them to resume.
    state = copy.deepcopy(model.training_state())
    assert {*state['losses']} == {'image.projection.weight', 'image.projection.bias'}
    other = student(**teacher, feature_losses=projections)
    torch.nn.init.ones_(other.feature_losses.get_parameter('image.projection.weight'))
    other.load_training_state(state)
    assert differences(other.training_state()['losses'], state['losses']) == []


def test_a_trained_teacher_learns_its_own_task_only(tmp_path: Path) -> None:
    larger = config('sam2_1_mini')
    path = weights(tmp_path, larger)
    model = student(teacher=larger, teacher_checkpoint=path, train_teacher=True)
    model.init_weights()
    assert model.state_dict().keys() == without_teacher().state_dict().keys()
    model.double()
    terms = model.loss(clips())
    assert {'teacher_loss_mask', 'loss_mask', 'loss_memory_features'} <= terms.keys()
    prefix = 'training_parts.teacher.'
    actual = gradients(terms, model)
    expected = gradients(model.teacher.loss(clips()), model.teacher)
    assert expected
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[prefix + name], gradient, msg=name)
    state = model.training_state()
    assert state['teacher'].keys() == model.teacher.state_dict().keys()


@pytest.mark.parametrize('side', [64, 96])
def test_models_of_other_sizes_need_a_projection(tmp_path: Path, side: int) -> None:
    larger = config('sam2_1_mini', side)
    larger['data_preprocessor']['mean'] = (127.5, 127.5, 127.5)
    larger['data_preprocessor']['std'] = (127.5, 127.5, 127.5)
    arguments = {'teacher': larger, 'teacher_checkpoint': weights(tmp_path, larger)}
    projected = [loss | {'projection': (64, 64)} for loss in (IMAGE, MEMORY)]
    model = student(**arguments, feature_losses=projected)
    frames: list[Tensor] = []
    model.teacher.image_encoder.register_forward_pre_hook(
        lambda _, args: frames.append(args[0])
    )
    batch = clips()
    terms = model.loss(batch)
    assert gradients(terms, model)[
        'training_parts.losses.memory.projection.weight'
    ].any()
    pixels = model.data_preprocessor
    (seen,) = frames
    assert seen.shape[-2:] == (side, side)
    raw = batch.frames * pixels.std + pixels.mean
    torch.testing.assert_close(
        seen.mean(), ((raw - 127.5) / 127.5).mean(), atol=1e-2, rtol=0
    )
    if side != SIDE:
        with pytest.raises(ValueError, match=r'64 channels of 4 x 4.*of 6 x 6'):
            student(**arguments).loss(batch)


def test_single_frames_teach_image_features_only(teacher: dict[str, Any]) -> None:
    model = student(**teacher)
    tracked = outputs_of(model.teacher.tracker.memory_encoder)
    terms = model.loss(clips(num_frames=1))
    assert terms['loss_image_features'].item() > 0
    assert terms['loss_memory_features'].item() == 0
    assert not tracked


def test_wrong_teachers_are_refused(teacher: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'did you mean sam2_tiny_mose'):
        _ = student(teacher='sam2_tiny_moose').teacher
    with pytest.raises(ValueError, match='no weights; name its checkpoint'):
        student(teacher=config()).init_weights()
    other = tmp_path / 'other.pth'
    torch.save({'state_dict': without_teacher().state_dict()}, other)
    with pytest.raises(ValueError, match=r'other\.pth'):
        student(**teacher | {'teacher_checkpoint': str(other)}).init_weights()
    with pytest.raises(ValueError, match='at most one of each feature'):
        student(**teacher, feature_losses=[IMAGE, IMAGE])
    with pytest.raises(TypeError, match='num_object'):
        student(**teacher, num_object=1)
    # A student that only predicts needs no teacher.
    student(teacher='nowhere.py').eval().encode(clips().frames)
