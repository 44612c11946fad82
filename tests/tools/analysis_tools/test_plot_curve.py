"""The curve of a run, read from what MMEngine logs."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.image
import pytest
from torch.utils.tensorboard import SummaryWriter

from tool_modules import load_tool


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    return load_tool('analysis_tools/plot_curve')


def trained(step: int, seconds: float = 6.0) -> dict[str, Any]:
    return {'loss': 1.0, 'time': seconds, 'epoch': 1, 'iter': step, 'step': step}


def validated(score: float) -> dict[str, Any]:
    return {'J&F': score, 'J': score - 1, 'F': score + 1, 'time': 9.0, 'step': 1}


def write_log(folder: Path, *records: dict[str, Any]) -> Path:
    log = folder / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return log


def test_minutes_count_training_steps_only(tool: ModuleType) -> None:
    records = [trained(10), trained(20, 12.0), validated(40.0)]
    records += [trained(30), validated(50.0)]
    points = tool.curve_points(records)
    assert [point.step for point in points] == [20, 30]
    assert [point.minutes for point in points] == pytest.approx([3.0, 4.0])
    assert points[0].scores == {'J&F': 40.0, 'J': 39.0, 'F': 41.0}


def test_points_that_a_resumed_run_repeats_are_dropped(tool: ModuleType) -> None:
    first = [trained(10), validated(1.0), trained(20), validated(2.0), trained(30)]
    second = [trained(20), validated(3.0), trained(30), validated(4.0)]
    points = tool.curve_points(first + second)
    assert [(point.step, point.scores['J&F']) for point in points] == [
        (10, 1.0),
        (20, 3.0),
        (30, 4.0),
    ]
    assert points[-1].minutes == pytest.approx(3.0)


def test_parts_of_a_run_are_read_in_their_order(
    tool: ModuleType, tmp_path: Path
) -> None:
    late = write_log(tmp_path / '20260102_000000', trained(20))
    early = write_log(tmp_path / '20260101_000000', trained(10))
    assert tool.find_logs(tmp_path) == [early, late]
    assert tool.find_logs(late) == [late]


def test_score_of_a_size_that_no_object_has_is_no_point(
    tool: ModuleType, tmp_path: Path
) -> None:
    log = tmp_path / 'scalars.json'
    log.write_text('{"step": 1, "coco/bbox_mAP": 0.2, "coco/bbox_mAP_l": -1.0}\n')
    assert tool.read_records([log]) == [{'step': 1, 'coco/bbox_mAP': 0.2}]


def test_line_of_a_killed_run_is_skipped(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write_log(tmp_path, trained(10), validated(5.0))
    log.write_text(log.read_text() + '{"J&F": 7')
    assert len(tool.read_records([log])) == 2
    assert 'damaged line' in capsys.readouterr().out


@pytest.mark.parametrize('num_runs', [1, 2])
def test_picture_shows_runs_and_baselines(
    tool: ModuleType, tmp_path: Path, num_runs: int
) -> None:
    runs = []
    for number in range(num_runs):
        runs.append(tmp_path / f'run{number}')
        write_log(runs[-1] / 'stamp', trained(10), validated(30.0 + number))
    out = tmp_path / 'pictures' / 'curve.png'
    words = [*map(str, runs), '--out', str(out), '--baseline', 'copy=29.5', '--steps']
    assert tool.main(words) == out
    assert matplotlib.image.imread(out).std() > 0.05


def test_figure_names_its_curves_and_lines(tool: ModuleType) -> None:
    points = tool.curve_points([trained(10), validated(30.0)])
    figure = tool.draw_metrics({'J&F': {'mine': points}}, {'copy': 29.5}, by_step=False)
    axes = figure.axes[0]
    texts = {text.get_text() for text in axes.texts}
    assert texts == {'mine: best 30.0', 'copy 29.5'}
    assert axes.get_xlabel() == 'minutes of training'
    assert sorted(line.get_label() for line in axes.lines)[:2] == ['F', 'J']


def test_any_metric_can_be_plotted(tool: ModuleType) -> None:
    records = [{**trained(10), 'loss': 4.0}, {**trained(20), 'loss': 2.0}]
    records += [{'mIoU': 61.0, 'time': 9.0, 'step': 1}, {**trained(30), 'loss': 3.0}]
    losses = tool.curve_points(records, ('loss',))
    assert [(each.step, each.scores['loss']) for each in losses] == [
        (10, 4.0),
        (20, 2.0),
        (30, 3.0),
    ]
    (score,) = tool.curve_points(records, ('mIoU',))
    assert (score.step, score.scores) == (20, {'mIoU': 61.0})
    metrics = {'loss': {'mine': losses}, 'mIoU': {'mine': [score]}}
    figure = tool.draw_metrics(metrics, {}, by_step=True)
    texts = [axes.texts[0].get_text() for axes in figure.axes]
    assert texts == ['mine: lowest 2', 'mine: highest 61']
    assert [axes.get_ylabel() for axes in figure.axes] == ['loss', 'mIoU']


def test_error_about_an_unknown_metric_lists_the_logged_ones(
    tool: ModuleType, tmp_path: Path
) -> None:
    write_log(tmp_path / 'stamp', trained(10), validated(5.0))
    words = [str(tmp_path), '--metric', 'los', '--out', str(tmp_path / 'curve.png')]
    with pytest.raises(ValueError, match=r'has no los, only F, J, J&F, loss, time$'):
        tool.main(words)


def test_tensorboard_events_give_the_same_curve(
    tool: ModuleType, tmp_path: Path
) -> None:
    records = [trained(10), trained(20, 12.0), validated(40.0), trained(30)]
    folder = tmp_path / 'stamp' / 'vis_data'
    with SummaryWriter(str(folder)) as writer:
        for record in records:
            for name, value in record.items():
                writer.add_scalar(name, value, record['step'])
    found = tool.read_records(tool.find_logs(tmp_path))
    for names in (tool.SCORES, ('loss',)):
        assert tool.curve_points(found, names) == tool.curve_points(records, names)


@pytest.mark.parametrize(
    'line', ['5', 'null', '[' * 100_000, '{"iter": "x"}', '{"iter": NaN}', '\0\xff']
)
def test_line_without_a_record_is_skipped(
    tool: ModuleType, tmp_path: Path, line: str
) -> None:
    log = write_log(tmp_path, trained(10), validated(5.0))
    log.write_bytes(log.read_bytes() + line.encode('latin-1') + b'\n')
    assert len(tool.read_records([log])) == 2


@pytest.mark.parametrize('words', [['--baseline', 'copy'], []])
def test_invalid_arguments_are_refused(tool: ModuleType, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        tool.main([*words, *(['somewhere'] if words else [])])


@pytest.mark.parametrize(
    ('records', 'error'), [((), FileNotFoundError), ((trained(10),), ValueError)]
)
def test_error_names_the_run_without_scores(
    tool: ModuleType,
    tmp_path: Path,
    records: tuple[dict[str, Any], ...],
    error: type[Exception],
) -> None:
    if records:
        write_log(tmp_path / 'stamp', *records)
    with pytest.raises(error, match=str(tmp_path)):
        tool.main([str(tmp_path), '--out', str(tmp_path / 'curve.png')])


@pytest.mark.parametrize(
    ('save_best', 'expected'),
    [
        ("'mIoU_1_click'", 'mIoU_1_click'),
        ("['absent', 'mIoU_1_click']", 'mIoU_1_click'),
        ("'auto'", 'J&F'),
        ("'absent'", 'J&F'),
        ('None', 'J&F'),
    ],
)
def test_default_metric_is_that_of_save_best(
    tool: ModuleType, tmp_path: Path, save_best: str, expected: str
) -> None:
    score = {'mIoU_1_click': 61.0, 'mIoU_box': 70.0, 'time': 9.0, 'step': 1}
    log = write_log(tmp_path / 'stamp', trained(10), score)
    assert tool.default_metric(tmp_path) == 'J&F'
    hook = f'dict(checkpoint=dict(save_best={save_best}))'
    text = f"custom_imports = dict(imports=['absent'])\ndefault_hooks = {hook}\n"
    (log.parent / 'config.py').write_text(text)
    assert tool.default_metric(tmp_path) == tool.default_metric(log) == expected
    if expected != 'J&F':
        tool.main([str(tmp_path), '--out', str(tmp_path / 'curve.png')])
        assert (tmp_path / 'curve.png').stat().st_size > 1000


def test_labels_overlap_no_curve(tool: ModuleType) -> None:
    records = [record for step in (10, 20) for record in (trained(step), validated(9))]
    points = tool.curve_points(records)
    curves = {'first': points, 'second': points}
    figure = tool.draw_metrics({'J&F': curves}, {'copy': 8.5}, by_step=True)
    figure.canvas.draw()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(axes.bbox.overlaps(box) for box in boxes)
    assert not boxes[0].overlaps(boxes[1])
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert all(whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)
