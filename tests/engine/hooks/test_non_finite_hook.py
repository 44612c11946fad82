"""Bad batches are written down, and a run of them is stopped."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from mmengine.logging import MessageHub

from engine_processes import run_processes
from engine_toys import load, toy_config, train
from projects.sam2.engine.hooks import ClipNonFiniteHook
from projects.sam2.engine.optim import NonFiniteLossError
from projects.sam2.models.prompt_simulator import SAM2PromptSimulator
from projects.sam2.structures import ClipSample

NAN = 'engine_toys.ToyNanHook'


def spoil(*iterations: int, rank: int = 0) -> list[dict[str, Any]]:
    """The hook that spoils batches."""
    return [{'type': NAN, 'iterations': iterations, 'rank': rank}]


def written(work_dir: Path) -> list[str]:
    """Names of the batches that were written down."""
    return sorted(path.name for path in work_dir.glob('non_finite/*'))


def test_record_names_videos_frames_objects_and_prompts(tmp_path: Path) -> None:
    simulator = SAM2PromptSimulator(
        point_probability=1.0,
        num_conditioning_frames=(3, 3),
        num_correction_frames=(3, 3),
    )
    hub = MessageHub('non_finite')
    hub.update_info_dict({'iter': 6, 'seed': 7})
    runner = Mock(work_dir=str(tmp_path), iter=6, epoch=1, message_hub=hub)
    runner.model = Mock(prompt_simulator=simulator)
    clip = ClipSample(
        metainfo={
            'video_name': 'dogs-jump',
            'frame_indices': (4, 6, 8),
            'sample_index': 3,
            'seed': 99,
        }
    )
    clip.set_data(
        {
            'frames': torch.zeros(3, 3, 2, 2, dtype=torch.uint8),
            'annotated': torch.tensor([True, False, True]),
            'object_ids': torch.tensor([1, 5]),
        }
    )
    losses = {'loss': torch.tensor(torch.nan), 'loss_dice': torch.tensor(0.5)}
    guard = Mock(is_bad=torch.tensor(True), is_own=torch.tensor(True))
    ClipNonFiniteHook().after_guarded_batch(runner, 0, [clip], losses, guard)
    (path,) = tmp_path.glob('non_finite/iter_7_rank_0.json')
    record = json.loads(path.read_text())
    assert record['losses'] == {'loss': 'nan', 'loss_dice': '0.5'}
    assert record['clips'] == [
        {
            'video': 'dogs-jump',
            'sample_index': 3,
            'frames': [4, 6, 8],
            'annotated': [True, False, True],
            'object_ids': [1, 5],
            'seed_of_clicks': 99,
        }
    ]
    kinds = simulator.plan(3, step=6, seed=7).prompts
    # The frame without annotation is tracked.
    assert record['prompts'] == {
        'first': {str(frame): kinds[frame].value for frame in (0, 2)},
        'corrected_frames': [0, 2],
        'conditioning_frames': [0, 2],
    }
    assert (record['iteration'], record['epoch'], record['rank']) == (7, 2, 0)


def test_run_survives_a_non_finite_loss_and_logs_finite_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = train(toy_config(tmp_path, custom_hooks=spoil(2, 5)))
    shown = capsys.readouterr().out
    for iteration in (2, 5):
        assert f'The loss or gradient of iteration {iteration} is not finite' in shown
    assert written(tmp_path) == ['iter_2_rank_0.json', 'iter_5_rank_0.json']
    assert all(w.isfinite().all() for w in runner.model.state_dict().values())
    history, _ = runner.message_hub.get_scalar('train/loss').data
    assert len(history) == 10
    assert all(torch.tensor(history).isfinite())


def test_all_processes_skip_the_step_of_a_bad_batch(tmp_path: Path) -> None:
    # One process with twice the batch is the measure; nothing here is random.
    plain = {'model__dropout': 0.0}
    alone = train(toy_config(tmp_path / 'one', custom_hooks=spoil(3, 8), **plain))
    cfg = toy_config(
        tmp_path / 'two',
        custom_hooks=spoil(3, 8, rank=1),
        train_dataloader__batch_size=1,
        **plain,
    )
    assert run_processes(cfg, 2) == [0, 0]
    assert written(tmp_path / 'two') == ['iter_3_rank_1.json', 'iter_8_rank_1.json']
    found = load(tmp_path / 'two' / 'epoch_2.pth')['state_dict']
    for name, weights in alone.model.state_dict().items():
        torch.testing.assert_close(found[name], weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('iterations', 'limits', 'last'),
    [
        ((2, 4, 6, 7, 8, 9), {'max_consecutive': 3}, 8),
        ((2, 4, 6, 7, 8), {'max_total': 4}, 7),
    ],
)
def test_too_many_bad_batches_stop_the_run(
    tmp_path: Path, iterations: tuple[int, ...], limits: dict[str, int], last: int
) -> None:
    settings = {f'default_hooks__non_finite__{key}': on for key, on in limits.items()}
    cfg = toy_config(tmp_path, custom_hooks=spoil(*iterations), **settings)
    with pytest.raises(NonFiniteLossError, match=f'at iteration {last};.*learning'):
        train(cfg)
    assert len(written(tmp_path)) == iterations.index(last) + 1


def test_resumed_run_counts_earlier_bad_batches_in_total(
    tmp_path: Path,
) -> None:
    limit = {'default_hooks__non_finite__max_total': 3}
    stop = {'type': 'engine_toys.ToyStopHook', 'iteration': 4}
    train(toy_config(tmp_path, custom_hooks=[*spoil(2, 3), stop], **limit))
    cfg = toy_config(tmp_path, resume=True, custom_hooks=spoil(9), **limit)
    with pytest.raises(NonFiniteLossError, match='1 losses in a row and 3 in all'):
        train(cfg)


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match='max_total=0: give positive numbers'):
        ClipNonFiniteHook(max_total=0)


def test_run_continues_if_the_record_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'non_finite').write_text('in the way')
    assert train(toy_config(tmp_path, custom_hooks=spoil(2))).iter == 12
