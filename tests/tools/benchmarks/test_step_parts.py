"""Parts of a step: each is timed, and what it keeps is counted once."""

from typing import Any

from tool_modules import load_tool


def test_every_part_has_its_share(setting: Any) -> None:
    module = load_tool('benchmarks/step_parts')
    plain = module.measure_parts(setting, 'plain')
    ours = module.measure_parts(setting, 'ours')
    assert set(plain.seconds) == set(module.PARTS)
    # Enlarged masks with their graph, against none.
    assert plain.kept['loss_module'] > 20 * ours.kept['loss_module']
    assert sum(plain.kept.values()) > 1.5 * sum(ours.kept.values())
