"""One frame: heads, memories of masks, corrections, and batches of objects."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from golden_cases import (
    GoldenCase,
    assert_close,
    assert_exact,
    discover,
    golden_dir,
    unpack_masks,
)
from golden_models import EMBED_DIMS, IMAGE_SIZE, MEMORY_DIMS, golden_model
from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import MemoryQuery, MemorySelection, MemoryStore
from projects.sam2.models.tracking.frame import (
    NO_OBJECT_LOGIT,
    FrameTask,
    track_frame,
)
from projects.sam2.models.tracking.objects import ObjectBatch, track_objects
from projects.sam2.ops import downsample_logits, non_overlapping, upsample_logits
from projects.sam2.structures import (
    DecoderStep,
    EncodedFrame,
    FrameMemory,
    FramePrompt,
    ImageFeatures,
    PointPrompt,
    TrackingMode,
)
from toy_videos import relative_difference

EVALUATION = TrackingMode.EVALUATION
SIDE = 64
PRESENT = torch.ones(2, 1, dtype=torch.bool)


def _image_features(embedding: Tensor) -> ImageFeatures:
    """Features of which only the embedding is read."""
    nothing = torch.empty(0)
    return ImageFeatures(
        embedding=embedding, position=nothing, high_res_8=nothing, high_res_4=nothing
    )


# ----------------------------------------------------------------------- mask decoding
def _features(case: GoldenCase) -> ImageFeatures:
    return ImageFeatures(
        embedding=case.input('hb', (3, EMBED_DIMS, 16, 16)),
        position=torch.zeros(1),
        high_res_8=case.input('hs1', (3, EMBED_DIMS // 4, 32, 32)),
        high_res_4=case.input('hs0', (3, EMBED_DIMS // 8, 64, 64)),
    )


def _points(case: GoldenCase, labels: list[int]) -> PointPrompt:
    """First points of the prompts that were made beside a case, with other labels."""
    beside = case.path.with_name(case.path.name.replace('base_heads', 'prompt'))
    others = [GoldenCase(path) for path in sorted(golden_dir().glob('prompt_*.json'))]
    salt = case.spec['salt']
    found = [
        other for other in others if other.path == beside or other.spec['salt'] == salt
    ]
    if not found:
        pytest.skip(f'no points: no {beside.name} or other prompts of salt {salt!r}')
    found.sort(key=lambda other: other.path != beside)
    coords = torch.from_numpy(found[0].arrays['in_points'])[:, : len(labels)]
    return PointPrompt(
        coords=coords, labels=torch.tensor([labels] * 3, dtype=torch.int32)
    )


def _compare(case: GoldenCase, name: str, step: DecoderStep) -> None:
    high = upsample_logits(step.mask_logits, (IMAGE_SIZE, IMAGE_SIZE))
    actual = {
        'ious': step.candidate_ious,
        'low': step.mask_logits,
        'high': high[..., ::4, ::4],
        'obj_ptr': step.object_pointer,
        'score': step.object_score_logits,
    }
    for part, value in actual.items():
        expected = case.arrays[f'{name}_{part}']
        assert_close(value, expected, 1e-4, f'{case.name}/{name}_{part}')


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
def test_masks_of_each_prompt_equal_the_released_ones(case: GoldenCase) -> None:
    heads = golden_model(case.spec['salt']).heads
    features = _features(case)
    masks = unpack_masks(case.arrays['masks_bits'], (3, 1, IMAGE_SIZE, IMAGE_SIZE))
    earlier = downsample_logits(masks.float(), (64, 64))
    three = _points(case, [1, 0, 1])
    prompts = {
        'heads_none_multi': (None, None),
        'heads_1pt_multi': (_points(case, [1]), None),
        'heads_3pt_single': (three, None),
        'heads_3pt_mask': (three, earlier),
    }
    with torch.no_grad():
        for name, (points, logits) in prompts.items():
            step = heads.decode(
                embedding=features.embedding,
                features=features,
                mode=EVALUATION,
                points=points,
                previous_logits=logits,
            )
            _compare(case, name, step)


@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
def test_mask_prompt_becomes_the_mask_as_in_the_release(
    case: GoldenCase,
) -> None:
    heads = golden_model(case.spec['salt']).heads
    masks = unpack_masks(case.arrays['masks_bits'], (3, 1, IMAGE_SIZE, IMAGE_SIZE))
    with torch.no_grad():
        step = heads.use_mask_as_output(
            mask=masks, features=_features(case), mode=EVALUATION
        )
    actual = {
        'ious': step.candidate_ious,
        'low': step.mask_logits,
        'obj_ptr': step.object_pointer,
        'score': step.object_score_logits,
    }
    for part, value in actual.items():
        expected = case.arrays[f'mask_as_output_{part}']
        assert_close(value, expected, 1e-4, f'{case.name}/mask_as_output_{part}')
    assert step.full_logits is not None
    assert_exact(step.full_logits > 0, masks, 'mask')


@pytest.mark.parametrize('gate', [True, False])
def test_gate_in_training_hides_absent_objects_only_where_it_is_on(
    *, gate: bool
) -> None:
    model = golden_model('gate:', tracker={'gate_training_masks': gate})
    with torch.no_grad():
        model.mask_decoder.object_score_head.layers[-1].weight.zero_()
        model.mask_decoder.object_score_head.layers[-1].bias.fill_(-1.0)
        features = model.encode(torch.zeros(1, 3, 64, 64))
        for mode in TrackingMode:
            step = model.heads.decode(
                embedding=features.embedding, features=features, mode=mode
            )
            hidden = bool((step.mask_logits == NO_OBJECT_LOGIT).all())
            assert hidden is (gate or mode is EVALUATION)


def test_masks_are_float32_under_autocast() -> None:
    heads = golden_model('cast:').heads
    decoded: list[torch.dtype] = []
    heads.mask_decoder.register_forward_hook(
        lambda _module, _inputs, output: decoded.append(output.mask_logits.dtype)
    )
    features = golden_model('cast:').encode(torch.zeros(1, 3, 64, 64))
    with torch.no_grad(), torch.autocast('cpu', dtype=torch.bfloat16):
        step = heads.decode(
            embedding=features.embedding, features=features, mode=EVALUATION
        )
    assert decoded == [torch.bfloat16]
    assert step.candidate_logits.dtype is step.mask_logits.dtype is torch.float32


# ------------------------------------------------------------------- memories of masks
@pytest.mark.golden
@pytest.mark.parametrize('case', discover('base_heads_*'))
@pytest.mark.parametrize(
    ('name', 'binary', 'separate'),
    [
        ('enc_pts', True, False),
        ('enc_nopts', False, False),
        ('enc_nonoverlap', False, True),
        ('enc_pts_trainmode', False, False),
    ],
)
def test_memory_of_masks_equals_the_released_one(
    case: GoldenCase, name: str, *, binary: bool, separate: bool
) -> None:
    tracker = golden_model(case.spec['salt']).tracker
    tokens = case.input('f2', (256, 3, EMBED_DIMS))
    features = _image_features(tokens.permute(1, 2, 0).unflatten(2, (16, 16)))
    logits = case.input('hm', (3, 1, IMAGE_SIZE, IMAGE_SIZE), 4.0)
    present = torch.tensor([[3.0], [-2.0], [0.5]]) > 0
    if separate:  # as encode_frame_memory does with non_overlapping_memories
        logits = non_overlapping(logits)
    with torch.no_grad():
        memory = tracker.encode_memory(features, logits, present, binary=binary)
    assert_close(memory, case.arrays[name], 1e-4, f'{case.name}/{name}')


def test_first_prompted_frame_gets_the_no_memory_embedding() -> None:
    tracker = golden_model('first:').tracker
    features = _image_features(torch.zeros(2, EMBED_DIMS, 4, 6))
    expected = tracker.no_memory_embedding.flatten()
    empty = MemorySelection(memories=(), pointers=(), max_pointers=8)
    for selection in (None, empty):
        conditioned = tracker.condition_on_memory(features, selection)
        assert torch.equal(conditioned[1, :, 3, 5], expected)


def test_sam_2_0_has_no_embedding_for_absent_objects() -> None:
    model = golden_model(
        'twozero:',
        tracker={'no_object_embedding': False},
        tracker__object_pointer={'time_encoding': 'none'},
    )
    keys = set(model.state_dict())
    assert 'tracker.no_object_embedding' not in keys
    assert not any('time_projection' in key for key in keys)


# ----------------------------------------------------------------------------- frames
@pytest.fixture(scope='module')
def model() -> SAM2:
    """The small model."""
    return golden_model('frame:')


@pytest.fixture(scope='module')
def features(model: SAM2) -> ImageFeatures:
    """Features of one frame for two objects."""
    frame = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.encode(frame).select(torch.zeros(2, dtype=torch.int64))


@pytest.fixture
def mask() -> Tensor:
    """A mask prompt for two objects."""
    masks = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    masks[0, 0, 10:31, 5:44] = True
    masks[1, 0, 40:43, 50:60] = True
    return masks


def _click(x: float) -> PointPrompt:
    return PointPrompt(
        coords=torch.full((2, 1, 2), x), labels=torch.ones(2, 1, dtype=torch.int32)
    )


def _run(
    model: SAM2,
    features: ImageFeatures,
    prompt: FramePrompt,
    *,
    correct: Callable[[Tensor], PointPrompt] | None = None,
    mode: TrackingMode = TrackingMode.EVALUATION,
    reread: bool = False,
) -> EncodedFrame:
    task = FrameTask(
        query=MemoryQuery(frame_index=0, num_video_frames=8, mode=mode),
        prompt=prompt,
        uses_memory=False,
        correct=correct,
        num_corrections=3,
        reread_prompt=reread,
    )
    with torch.no_grad():
        return track_frame(model.heads, features, MemoryStore(), task)


def test_each_correction_adds_its_click_to_all_earlier_ones(
    model: SAM2, features: ImageFeatures
) -> None:
    shown: list[Tensor] = []

    def correct(logits: Tensor) -> PointPrompt:
        shown.append(logits)
        return _click(10.0 + len(shown))

    prompt = FramePrompt(points=_click(10.0))
    output = _run(model, features, prompt, correct=correct)
    last = output.final.points
    assert last is not None
    assert last.coords[0, :, 0].tolist() == [10.0, 11.0, 12.0, 13.0]
    assert [step.candidate_ious.shape[1] for step in output.steps] == [3, 1, 1, 1]
    assert [tuple(logits.shape[-2:]) for logits in shown] == [(SIDE, SIDE)] * 3


def test_corrections_build_on_the_mask_before(
    model: SAM2, features: ImageFeatures
) -> None:
    prompt = FramePrompt(points=_click(10.0))
    corrected = _run(model, features, prompt, correct=lambda _: _click(20.0))
    at_once = _run(
        model,
        features,
        FramePrompt(points=_click(10.0).followed_by(_click(20.0))),
    )
    assert not torch.allclose(
        corrected.steps[1].mask_logits, at_once.final.mask_logits, atol=1e-3
    )


def test_mask_prompt_is_not_decoded(
    model: SAM2, features: ImageFeatures, mask: Tensor
) -> None:
    output = _run(model, features, FramePrompt(mask=mask), correct=lambda _: _click(1))
    assert len(output.steps) == 1
    assert output.final.full_logits is not None
    assert torch.equal(output.final.full_logits > 0, mask)


@pytest.mark.parametrize('mode', list(TrackingMode))
def test_interactive_memory_of_a_mask_is_binary_in_evaluation_alone(
    model: SAM2, features: ImageFeatures, mask: Tensor, mode: TrackingMode
) -> None:
    plain = _run(model, features, FramePrompt(mask=mask), mode=mode)
    reread = _run(model, features, FramePrompt(mask=mask), mode=mode, reread=True)
    low = reread.final.mask_logits
    shown = interpolate(low, size=(SIDE, SIDE), mode='bilinear', align_corners=False)
    binary = mode is TrackingMode.EVALUATION
    expected = model.tracker.encode_memory(features, shown, PRESENT, binary=binary)
    assert torch.allclose(reread.memory.spatial, expected, atol=1e-5)
    assert not torch.allclose(plain.memory.spatial, expected, atol=1e-3)


def test_training_and_evaluation_share_the_decoded_logits_of_a_click(
    model: SAM2, features: ImageFeatures
) -> None:
    prompt = FramePrompt(points=_click(30.0))
    first, second = (_run(model, features, prompt, mode=mode) for mode in TrackingMode)
    assert torch.equal(first.final.candidate_logits, second.final.candidate_logits)


@pytest.mark.parametrize('decided', [True, False])
def test_memory_of_clicks_is_decided_or_as_sure_as_the_mask(
    features: ImageFeatures, *, decided: bool
) -> None:
    model = golden_model('frame:', tracker={'binary_clicked_memories': decided})
    output = _run(model, features, FramePrompt(points=_click(30.0)))
    shown = interpolate(output.final.mask_logits, size=(SIDE, SIDE), mode='bilinear')
    with torch.no_grad():
        expected, other = (
            model.tracker.encode_memory(
                features, shown, output.final.object_score_logits > 0, binary=binary
            )
            for binary in (decided, not decided)
        )
    assert torch.allclose(output.memory.spatial, expected, atol=1e-5)
    assert not torch.allclose(output.memory.spatial, other, atol=1e-3)


def _noise_store(seed: int, *conditioning: int) -> MemoryStore:
    """Memories of three frames."""
    noise = torch.Generator().manual_seed(seed)
    store = MemoryStore()
    for frame in range(3):
        memory = FrameMemory(
            spatial=torch.randn(
                1, MEMORY_DIMS, SIDE // 16, SIDE // 16, generator=noise
            ),
            object_pointer=torch.randn(1, EMBED_DIMS, generator=noise),
            ious=torch.ones(1, 1),
            object_score_logits=torch.ones(1, 1),
        )
        store.add(frame, memory, conditioning=frame in conditioning)
    return store


@pytest.mark.parametrize('size', [1, 2, 16])
def test_objects_in_batches_equal_objects_alone(
    model: SAM2, features: ImageFeatures, size: int
) -> None:
    stores = {
        7: _noise_store(1, 0),
        5: _noise_store(2, 0, 1),
        3: _noise_store(3, 0),
        1: _noise_store(4, 0),
    }
    query = MemoryQuery(frame_index=3, num_video_frames=9, mode=EVALUATION)
    frame = features.select(torch.zeros(1, dtype=torch.int64))

    def track(chosen: dict[int, MemoryStore], limit: int) -> list[ObjectBatch]:
        heads = model.heads
        with torch.no_grad():
            return list(
                track_objects(heads, chosen, frame, query, max_batch_objects=limit)
            )

    batches = track(stores, size)
    assert sorted(i for batch in batches for i in batch.object_ids) == [1, 3, 5, 7]
    assert max(len(batch.object_ids) for batch in batches) == min(size, 3)
    (alone,) = track({3: stores[3]}, 1)
    (batch,) = [batch for batch in batches if 3 in batch.object_ids]
    row = batch.object_ids.index(3)
    pairs = (
        (batch.output.memory.spatial, alone.output.memory.spatial),
        (batch.output.memory.object_pointer, alone.output.memory.object_pointer),
        (batch.output.memory.ious, alone.output.final.ious),
    )
    for together, apart in pairs:
        assert relative_difference(together[row : row + 1], apart) <= 1e-4


def test_pointer_of_an_empty_mask_is_the_learned_one_for_absent_objects() -> None:
    model = golden_model('v17').eval()
    with torch.no_grad():  # the decoder itself judges both objects present
        model.mask_decoder.object_score_head.layers[-1].weight.zero_()
        model.mask_decoder.object_score_head.layers[-1].bias.fill_(1.0)
    masks = torch.zeros(2, 1, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    masks[0, 0, 20:60, 30:90] = True
    features = model.encode(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)).repeated(2)
    step = model.heads.use_mask_as_output(
        mask=masks, features=features, mode=EVALUATION
    )
    absent = model.tracker.object_pointer.no_object_pointer[0]
    assert torch.equal(step.object_pointer[1], absent)
    assert not torch.equal(step.object_pointer[0], absent)
