"""Writes checkpoints safely, and decides which ones a run keeps."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..files import ATOMIC_BACKEND, to_plain


@HOOKS.register_module()
class SAM2CheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with safe writes; it takes the same arguments.

    Which checkpoints are kept, and when they are written:

    - One at each ``interval`` and at the end of the run (unless ``save_last=False``),
      always right after an optimizer step: one that is due while gradients are
      accumulated is written after the next step.
    - One if the run is stopped in mid-epoch (unless ``save_last=False``):
      ``epoch_1_iter_8.pth`` if names count epochs.
    - Of these, the newest ``max_keep_ckpts``. Older ones are removed once the new one
      is complete; MMEngine removes them before.
    - The weights of the best score of each metric of ``save_best``, without optimizer
      state. Names keep word characters only: ``J&F`` gives ``best_JF_….pth``.

    How they are written:

    - Files, including ``last_checkpoint``, are written atomically.
    - If writing fails, for example on a full disk, older checkpoints stay, the error is
      logged and the run goes on to the next checkpoint. It fails at its end if the last
      checkpoint could not be written.
    - Files contain plain types only, so that ``weights_only`` can read them.

    Other hooks may define ``before_gather_checkpoint(runner)``. It is called on every
    process before a checkpoint to resume from is written.
    """

    last_ckpt: str | None  # type: ignore[assignment]  # MMEngine infers None
    _is_due = False
    _problem: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Choose the file backend and read which checkpoints earlier runs wrote."""
        out_dir = str(self.out_dir or runner.work_dir)
        if self.backend_args is None and '://' not in out_dir:
            self.backend_args = {'backend': ATOMIC_BACKEND}
        super().before_train(runner)
        # MMEngine's deque would drop the oldest entry before its file is removed.
        self.kept_steps = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []

    def after_train_epoch(self, runner: Runner) -> None:
        """Write a checkpoint if one is due at the end of the epoch."""
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
        """Write a checkpoint if one is due and the optimizer has just stepped."""
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
        ):
            self._is_due = True
        self._save_if_stepped(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Write the state of a stopped run, and publish ``published_keys``."""
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
        """Remove or convert what ``weights_only`` cannot read."""
        hub = checkpoint['message_hub']
        info = to_plain(hub['runtime_info'])
        checkpoint['message_hub'] = {
            'log_scalars': {},
            'runtime_info': info,
            'resumed_keys': {
                key: value for key, value in hub['resumed_keys'].items() if key in info
            },
        }
        checkpoint['meta'] = to_plain(checkpoint['meta'])

    def _saved_iteration(self, runner: Runner) -> int:
        """Iteration of the last checkpoint; 0 if there is none."""
        return int(runner.message_hub.get_info('last_ckpt_iter', 0))

    def _save_if_stepped(self, runner: Runner, *, epoch: int, iteration: int) -> None:
        """Write a due checkpoint, unless gradients are being accumulated."""
        wrapper: Any = runner.optim_wrapper
        if not self._is_due or not wrapper.should_update():
            return
        step: int | str = epoch if self.by_epoch else iteration
        num_batches_done = iteration - epoch * len(runner.train_dataloader)
        if self.by_epoch and num_batches_done and iteration == runner.iter:
            # Stopped in mid-epoch: do not overwrite the file of the epoch's start.
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
        """Write a checkpoint to resume from, then remove the oldest ones."""
        runner.call_hook('before_gather_checkpoint')
        name = self.filename_tmpl.format(step)
        path = self.file_backend.join_path(self.out_dir, name)
        info: dict[str, Any] = {'last_ckpt': path, 'last_ckpt_iter': meta['iter']}
        kept_steps = [*(kept for kept in self.kept_steps if kept != step), step]
        if self.max_keep_ckpts > 0:
            # Includes the one to be removed: if the run dies before that, the resumed
            # run removes it.
            info['keep_ckpt_ids'] = kept_steps
        self._is_due = False
        if self._write(runner, name, info=info, meta=meta, to_resume=True):
            self.last_ckpt, self.kept_steps = path, kept_steps
            while 0 < self.max_keep_ckpts < len(self.kept_steps):
                oldest = self.filename_tmpl.format(self.kept_steps.pop(0))
                self._remove(self.file_backend.join_path(self.out_dir, oldest))

    def _write(
        self,
        runner: Runner,
        name: str,
        *,
        info: dict[str, Any],
        meta: dict[str, Any],
        to_resume: bool,
    ) -> bool:
        """Write a checkpoint; on all processes, False if the first one could not.

        Args:
            info: Entries of the message hub, kept only if the file was written.
            to_resume: Whether it is one to resume from, with optimizer state.
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
            problem = f'{name} could not be written: {error}{_free_space(self.out_dir)}'
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
            '%s. Earlier checkpoints are intact (the last one: %s); the run continues '
            'and tries again at the next checkpoint. Free disk space, or lower '
            'max_keep_ckpts',
            problem,
            self.last_ckpt or 'none',
        )
        return False

    def _remove(self, path: str | None) -> None:
        """Remove a file, if it exists."""
        if path and is_main_process() and self.file_backend.isfile(path):
            self.file_backend.remove(path)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Write the weights if a metric of ``save_best`` has improved."""
        # A run that only validates has no weights to keep.
        if not self.save_best or not hasattr(self, 'file_backend'):
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        improved = [
            self._save_if_best(runner, key, rule, metrics)
            for key, rule in zip(self.key_indicators, self.rules, strict=True)
        ]
        # Write this iteration's checkpoint again, so that it contains the best score.
        # If there is none, a resumed run validates again.
        if any(improved) and self._saved_iteration(runner) == runner.iter:
            self._is_due = True
            self._save_if_stepped(runner, epoch=runner.epoch, iteration=runner.iter)

    def _save_if_best(
        self, runner: Runner, key: str, rule: str, metrics: dict[str, float]
    ) -> bool:
        """Write the weights if the score is the best so far; remove the old best."""
        if key not in metrics:
            msg = f'save_best={key!r} is not one of the metrics {sorted(metrics)}'
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
        path = self.file_backend.join_path(self.out_dir, name)
        old_path = hub.get_info(path_name)
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
        runner.logger.info('Best %s so far, %.4f, saved as %s', key, score, name)
        return True


def _free_space(folder: str) -> str:
    """Free space of a local folder, for a message."""
    if not Path(folder).is_dir():
        return ''
    return f' ({shutil.disk_usage(folder).free / 2**20:.1f} MiB are free there)'
