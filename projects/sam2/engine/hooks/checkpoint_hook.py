"""Stops a run whose weights do not fit its model."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...checkpoints import (
    SOURCE_FIELD,
    adapter_weights_of,
    check_weights,
    fit_adapters,
    is_adapter_key,
    read_checkpoint,
    weights_of,
)
from ..files import ATOMIC_BACKEND, to_plain


@HOOKS.register_module()
class SAM2CheckpointCheckHook(Hook):
    """Checks loaded weights against the model before anything reads them.

    MMEngine loads what fits and logs the rest, so a run with half of its weights at
    random goes unnoticed. The priority lies before that of the EMA hook, which reads
    the weights, too.

    A model with adapters takes the weights of a plain one: its layers get theirs, and
    its adapters begin anew.

    Args:
        adapters: File of what an earlier run has trained, as ``convert_adapters.py
            save`` writes it, to go on from where a plain checkpoint is loaded; None
            for adapters that begin anew. For models with adapters alone: of others no
            weight tells whether a run has trained it since.
    """

    priority = 'VERY_HIGH'

    def __init__(self, *, adapters: str | None = None) -> None:
        self.adapters = adapters

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Raise where the weights do not fit."""
        source = checkpoint.get(SOURCE_FIELD, 'The loaded checkpoint')
        weights = weights_of(checkpoint, source=source)
        model = runner.model
        bare = model.get_submodule('module') if is_model_wrapper(model) else model
        wanted = bare.state_dict()
        if self.adapters is not None and not any(map(is_adapter_key, wanted)):
            msg = (
                f'adapters={self.adapters!r} of SAM2CheckpointCheckHook needs a model '
                f'with SAM2LowRankAdapters; merge the file (convert_adapters.py merge '
                f'--base) and load the result instead'
            )
            raise ValueError(msg)
        fitted = fit_adapters(weights, wanted)
        if self.adapters is not None and any(map(is_adapter_key, weights)):
            runner.logger.warning(
                '%s has adapters already: adapters=%r of SAM2CheckpointCheckHook is '
                'not read',
                source,
                self.adapters,
            )
        elif self.adapters is not None:
            given = read_checkpoint(self.adapters, 'cpu')
            fitted |= adapter_weights_of(given, source=self.adapters)
            runner.logger.info('Adapters are those of %s', self.adapters)
        check_weights(fitted, bare, source=source)
        checkpoint['state_dict'] = fitted


@HOOKS.register_module()
class SAM2CheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, made safe; its arguments are unchanged.

    - Files, ``last_checkpoint`` among them, are written aside and renamed.
    - Old files go after the new one is there, not before.
    - A checkpoint falls on an optimizer step: one that is due while gradients are
      being accumulated is written after the step that follows.
    - A run that is stopped in mid-epoch writes a checkpoint of where it stands
      (unless ``save_last=False``), ``epoch_1_iter_8.pth`` where names count epochs.
    - A checkpoint that cannot be written, on a full disk for one, leaves those before
      it as they are; the run says so, goes on and tries again at the next one. It
      fails at its end if the last one is still missing.
    - A best score makes no checkpoint to resume from beside those of the interval.
    - Files hold plain types, so that ``weights_only`` reads them.
    - Names of best checkpoints keep word characters alone: ``J&F`` gives ``best_JF_…``.

    All other hooks may define ``before_gather_checkpoint(runner)``: it is called on
    every process before a checkpoint to resume from is written.
    """

    last_ckpt: str | None  # type: ignore[assignment]  # MMEngine infers None
    _is_due = False
    _problem: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Choose the file backend and learn what earlier runs wrote."""
        out_dir = str(self.out_dir or runner.work_dir)
        if self.backend_args is None and '://' not in out_dir:
            self.backend_args = {'backend': ATOMIC_BACKEND}
        super().before_train(runner)
        # MMEngine's deque forgets the oldest on its own; here it goes when its file
        # has gone.
        self.kept_steps = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []

    def after_train_epoch(self, runner: Runner) -> None:
        """Write a checkpoint where one is due at the end of the epoch."""
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_epoch(runner))
        ):
            self._is_due = True
            self._save_if_stepped(runner, epoch=runner.epoch + 1, iteration=runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint where one is due and the optimizer has just stepped."""
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
        ):
            self._is_due = True
        self._save_if_stepped(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Write where a stopped run stands, and publish what is to be published."""
        if self.save_last and runner.iter != self._saved_iteration(runner):
            self._is_due = True
            self._save_if_stepped(runner, epoch=runner.epoch, iteration=runner.iter)
        if self._problem is not None:
            raise OSError(self._problem)
        super().after_train(runner)

    def before_save_checkpoint(
        self,
        runner: Runner,
        checkpoint: dict[str, Any],
    ) -> None:
        """Leave out or turn into plain types what ``weights_only`` does not read."""
        hub = checkpoint['message_hub']
        info = to_plain(hub['runtime_info'])
        resumed = {key: on for key, on in hub['resumed_keys'].items() if key in info}
        checkpoint['message_hub'] = {
            'log_scalars': {},
            'runtime_info': info,
            'resumed_keys': resumed,
        }
        checkpoint['meta'] = to_plain(checkpoint['meta'])

    def _saved_iteration(self, runner: Runner) -> int:
        """Iterations that the last checkpoint holds; 0 where there is none."""
        return int(runner.message_hub.get_info('last_ckpt_iter', 0))

    def _save_if_stepped(self, runner: Runner, *, epoch: int, iteration: int) -> None:
        """Write a due checkpoint, unless gradients wait to be applied."""
        wrapper: Any = runner.optim_wrapper
        if not self._is_due or not wrapper.should_update():
            return
        step: int | str = epoch if self.by_epoch else iteration
        done = iteration - epoch * len(runner.train_dataloader)
        if self.by_epoch and done and iteration == runner.iter:
            # Stopped in mid-epoch: the file of the epoch's beginning stays.
            step = f'{epoch}_iter_{iteration}'
        runner.logger.info(
            'Saving checkpoint at epoch %d, iteration %d', epoch, iteration
        )
        self._save_checkpoint_with_step(
            runner, step, meta={'epoch': epoch, 'iter': iteration}
        )

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int | str, meta: dict[str, Any]
    ) -> None:
        """Write a checkpoint to resume from, then remove those that are too many."""
        runner.call_hook('before_gather_checkpoint')
        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        info: dict[str, Any] = {'last_ckpt': path, 'last_ckpt_iter': meta['iter']}
        kept = [*(one for one in self.kept_steps if one != step), step]
        if self.max_keep_ckpts > 0:
            # With the one to be removed: should the run die before it is, the
            # resumed run removes it.
            info['keep_ckpt_ids'] = kept
        self._is_due = False
        if self._write(runner, name, info=info, meta=meta, to_resume=True):
            self.last_ckpt, self.kept_steps = path, kept
            self._prune()

    def _write(
        self,
        runner: Runner,
        name: str,
        *,
        info: dict[str, Any],
        meta: dict[str, Any],
        to_resume: bool,
    ) -> bool:
        """Write a checkpoint and what it says of itself; False where that fails.

        The first process writes, and all learn what became of it.
        """
        hub = runner.message_hub
        before = dict(hub.runtime_info)
        hub.update_info_dict(info)
        problem = None
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer and to_resume,
                save_param_scheduler=self.save_param_scheduler and to_resume,
                meta=meta,
                by_epoch=self.by_epoch and to_resume,
                backend_args=self.backend_args,
            )
            if to_resume and is_main_process():
                pointer = str(Path(runner.work_dir) / 'last_checkpoint')
                backend = get_file_backend(backend_args={'backend': ATOMIC_BACKEND})
                backend.put_text(info['last_ckpt'], pointer)
        except OSError as error:
            problem = f'{name} could not be written: {error}{_free(self.out_dir)}'
        is_written = torch.tensor(int(problem is None))
        all_reduce(is_written, op='min')
        if is_written:
            self._problem = None if to_resume else self._problem
            return True
        problem = problem or f'The first process could not write {name}'
        self._problem = problem if to_resume else self._problem
        for key in info:
            hub.pop_info(key)
        hub.update_info_dict({key: before[key] for key in info if key in before})
        runner.logger.error(
            '%s. What was saved before is as it was (%s); the run goes on and tries '
            'again at its next checkpoint. Free space, or lower max_keep_ckpts',
            problem,
            self.last_ckpt or 'nothing yet',
        )
        return False

    def _prune(self) -> None:
        """Remove the oldest checkpoints beyond ``max_keep_ckpts``."""
        while 0 < self.max_keep_ckpts < len(self.kept_steps):
            name = self.filename_tmpl.format(self.kept_steps.pop(0))
            self._remove(self.file_backend.join_path(self.out_dir, name))

    def _remove(self, path: str | None) -> None:
        """Remove a file that may be gone already."""
        if path and is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep the weights of the best score of each metric asked for."""
        # Runner.val() alone trains nothing that could be kept.
        if not self.save_best or not hasattr(self, 'file_backend'):
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        improved = [
            self._save_if_best(runner, key, rule, metrics)
            for key, rule in zip(self.key_indicators, self.rules, strict=True)
        ]
        # Once more, so that the checkpoint of here knows the best score. Where there is
        # none of here, a resumed run validates again.
        if any(improved) and self._saved_iteration(runner) == runner.iter:
            self._is_due = True
            self._save_if_stepped(runner, epoch=runner.epoch, iteration=runner.iter)

    def _save_if_best(
        self, runner: Runner, key: str, rule: str, metrics: dict[str, float]
    ) -> bool:
        """Write the weights if the score beats the best so far, then drop those."""
        if key not in metrics:
            msg = f'save_best={key!r} is none of the metrics {sorted(metrics)}'
            raise KeyError(msg)
        is_only = len(self.key_indicators) == 1
        score_name = 'best_score' if is_only else f'best_score_{key}'
        path_name = 'best_ckpt' if is_only else f'best_ckpt_{key}'
        hub = runner.message_hub
        best = hub.get_info(score_name, self.init_value_map[rule])
        score = metrics[key]
        if score is None or not self.is_better_than[key](score, best):
            return False
        count = runner.epoch if self.by_epoch else runner.iter
        word = re.sub(r'[^\w.-]', '', key.replace('/', '_'))
        name = f'best_{word}_{self.filename_tmpl.format(count)}'
        path, old_path = (
            self.file_backend.join_path(self.out_dir, name),
            hub.get_info(path_name),
        )
        info = {score_name: score, path_name: path}
        meta = {'epoch': runner.epoch, 'iter': runner.iter}
        if not self._write(runner, name, info=info, meta=meta, to_resume=False):
            return False
        if old_path != path:
            self._remove(old_path)
        if is_only:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[key] = path
        runner.logger.info('The best %s so far, %.4f, is kept as %s', key, score, name)
        return True


def _free(folder: str) -> str:
    """How much room a local folder has, in words."""
    if not Path(folder).is_dir():
        return ''
    return f' ({shutil.disk_usage(folder).free / 2**20:.1f} MiB are free there)'
