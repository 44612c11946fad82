"""The tool that counts parameters and FLOPs."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.analysis import FlopAnalyzer

from projects.sam2.apis import build_sam2
from tool_modules import load_tool

MINI = 'configs/_base_/models/sam2_1_mini.py'
# Millions of parameters in the table of the release.
PUBLISHED = {'t': 38.9, 's': 46.0, 'b+': 80.8, 'l': 224.4}


@pytest.mark.parametrize('size', PUBLISHED)
def test_parameters_are_those_of_the_release(size: str) -> None:
    with torch.device('meta'):
        model = build_sam2(f'sam2.1_hiera_{size}', device='meta')
    total = sum(load_tool('analysis_tools/get_flops').count_parameters(model).values())
    assert total / 1e6 == pytest.approx(PUBLISHED[size], abs=0.1)


def test_flops_of_the_encoder_are_those_of_mmengine(tmp_path: Path) -> None:
    tool = load_tool('analysis_tools/get_flops')
    out = tmp_path / 'flops.json'
    words = ['--shape', '64', '96', '--num-objects', '2', '--json', str(out)]
    result = tool.main([MINI, *words])
    assert json.loads(out.read_text()) == result
    assert result['image_size'] == [64, 96]
    model = build_sam2(MINI, device='cpu')
    analyzer = FlopAnalyzer(model.image_encoder, (torch.zeros(1, 3, 64, 96),))
    analyzer.unsupported_ops_warnings(False)
    by_operator = analyzer.by_operator()
    # MMEngine counts norms as well, and does not know the fused attention.
    products = sum(by_operator[name] for name in ('conv', 'linear', 'matmul'))
    counted = result['multiply_adds']['track']['image encoder']
    assert 0.95 * products <= counted <= 1.2 * products


def test_objects_cost_more_in_all_parts_but_the_encoder() -> None:
    tool = load_tool('analysis_tools/get_flops')
    one, three = (
        tool.main([MINI, '--shape', '64', '--num-objects', count])['multiply_adds']
        for count in ('1', '3')
    )
    assert one['track']['image encoder'] == three['track']['image encoder']
    for part in ('memory attention', 'mask decoder', 'memory encoder'):
        # What does not depend on the object is computed once.
        assert 2 < three['track'][part] / one['track'][part] <= 3
    assert one['click']['memory attention'] == 0


@pytest.mark.parametrize(
    ('words', 'message'),
    [(['--shape', '1', '2', '3'], '--shape'), (['--num-objects', '0'], 'at least 1')],
)
def test_wrong_sizes_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tool('analysis_tools/get_flops').main([MINI, *words])
