"""The summary of a run says what it starts with."""

import pytest

from projects.sam2.engine.run_summary import describe_teacher


@pytest.mark.parametrize(
    ('model', 'expected'),
    [
        ({'type': 'SAM2'}, ''),
        (
            {
                'type': 'mmsam2.SAM2Distillation',
                'teacher': 'sam2_mini_synthetic',
                'teacher_checkpoint': 'best.pth',
                'init_from_teacher': ['tracker'],
            },
            'sam2_mini_synthetic, best.pth, its weights in tracker of the student',
        ),
        ({'type': 'SAM2Distillation', 'teacher': {'type': 'SAM2'}}, 'SAM2'),
    ],
)
def test_summary_names_the_teacher(model: dict[str, object], expected: str) -> None:
    assert describe_teacher(model) == expected
