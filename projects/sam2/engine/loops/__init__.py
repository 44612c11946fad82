"""The loops of training, validation and test."""

from projects.sam2.engine.loops.clip_train_loop import ClipTrainLoop
from projects.sam2.engine.loops.evaluation_loops import ClipTestLoop, ClipValLoop

__all__ = ['ClipTestLoop', 'ClipTrainLoop', 'ClipValLoop']
