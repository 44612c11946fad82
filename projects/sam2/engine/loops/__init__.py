"""The loop of training; validation and test run MMEngine's own."""

from projects.sam2.engine.loops.clip_train_loop import ClipTrainLoop

__all__ = ['ClipTrainLoop']
