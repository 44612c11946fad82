"""What a golden run decided, drawn in the order in which the released code draws."""

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from projects.sam2.models.prompt_simulator import PromptKind, PromptPlan

Stage = Literal['train', 'eval']
# Released options that change no number, or that the tests read by themselves.
WITHOUT_EFFECT = (
    'forward_backbone_per_frame_for_eval',
    'use_act_ckpt_iterative_pt_sampling',
    'num_correction_pt_per_frame',
    'prob_to_sample_from_gt_for_train',
    'prob_to_use_pt_input_for_',
    'prob_to_use_box_input_for_',
    'num_frames_to_correct_for_',
    'num_init_cond_frames_for_',
    'rand_frames_to_correct_for_',
    'rand_init_cond_frames_for_',
    'add_all_frames_to_correct_as_cond',
)


@dataclass(frozen=True, kw_only=True)
class DecisionSettings:
    """From what a run draws which frames it prompts."""

    num_frames: int
    point_probability: float
    box_probability: float
    num_conditioning: int
    num_corrected: int
    random_conditioning: bool
    random_corrected: bool
    corrections_are_conditioning: bool


def changed_options(setup: Mapping[str, Any]) -> dict[str, Any]:
    """Released options that a case sets, by their names without marks.

    The test is skipped where one of them is unknown here.

    Args:
        setup: ``case`` of its json file.
    """
    options = {}
    for marked, value in setup.get('over', {}).items():
        name = marked.lstrip('+')
        if not name.startswith(WITHOUT_EFFECT):
            pytest.skip(f'the case sets {name}, for which this test has no word')
        options[name] = ast.literal_eval(value) if isinstance(value, str) else value
    return options


def settings_of(setup: Mapping[str, Any], stage: Stage) -> DecisionSettings:
    """Settings of a golden case.

    Args:
        setup: ``case`` of its json file.
    """
    options = changed_options(setup)
    fields = setup if stage == 'train' else {}
    single = setup['T'] == 1  # an image: points on it, whatever the options say
    num_conditioning = options.get(
        f'num_init_cond_frames_for_{stage}', fields.get('n_init', 1)
    )
    num_corrected = options.get(
        f'num_frames_to_correct_for_{stage}', fields.get('n_corr', num_conditioning)
    )
    points = options.get(f'prob_to_use_pt_input_for_{stage}', fields.get('p_pt', 0))
    return DecisionSettings(
        num_frames=setup['T'],
        point_probability=1.0 if single else points,
        box_probability=options.get(
            f'prob_to_use_box_input_for_{stage}', fields.get('p_box', 0)
        ),
        num_conditioning=1 if single else num_conditioning,
        num_corrected=1 if single else num_corrected,
        random_conditioning=options.get(f'rand_init_cond_frames_for_{stage}', False),
        random_corrected=options.get(f'rand_frames_to_correct_for_{stage}', False),
        corrections_are_conditioning=options.get(
            'add_all_frames_to_correct_as_cond', True
        ),
    )


def draw_plan(settings: DecisionSettings, seed: int) -> PromptPlan:
    """Draw the decisions of one forward pass.

    Args:
        seed: Of NumPy's generator.
    """
    rng = np.random.default_rng(seed)
    with_points = rng.random() < settings.point_probability
    num_conditioning, num_corrected = settings.num_conditioning, settings.num_corrected
    if settings.random_conditioning and num_conditioning > 1:
        num_conditioning = int(rng.integers(1, num_conditioning, endpoint=True))
    more = num_corrected > num_conditioning
    if with_points and settings.random_corrected and more:
        num_corrected = int(
            rng.integers(num_conditioning, num_corrected, endpoint=True)
        )
    frames = range(settings.num_frames)
    conditioning = [0, *_choose(rng, frames[1:], num_conditioning - 1)]
    if not with_points:
        return _plan(dict.fromkeys(conditioning, PromptKind.MASK), ())
    # A prompt draws whether it is a box before the next frame's prompt does.
    boxes = [rng.random() < settings.box_probability for _ in conditioning]
    kinds = [PromptKind.BOX if box else PromptKind.POINT for box in boxes]
    others = [frame for frame in frames if frame not in conditioning]
    later = _choose(rng, others, num_corrected - num_conditioning)
    return _plan(
        dict(zip(conditioning, kinds, strict=True)),
        (*conditioning, *later),
        conditioning=settings.corrections_are_conditioning,
    )


def _choose(
    rng: np.random.Generator, frames: Iterable[int], num_chosen: int
) -> list[int]:
    """Different frames; where none is to be chosen, nothing is drawn."""
    if num_chosen < 1:
        return []
    chosen: list[int] = rng.choice([*frames], num_chosen, replace=False).tolist()
    return chosen


def _plan(
    prompts: dict[int, PromptKind],
    corrected: Iterable[int],
    *,
    conditioning: bool = True,
) -> PromptPlan:
    """Build a plan; ``conditioning``: corrected frames become conditioning frames."""
    corrections = frozenset(corrected)
    return PromptPlan(
        prompts=prompts,
        correction_frames=corrections,
        conditioning_frames=frozenset(prompts)
        | (corrections if conditioning else set()),
    )
