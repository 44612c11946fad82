"""Hooks: checkpoints, signals, bad losses, memory, compiling, diagnostics, pictures."""

from projects.sam2.engine.hooks.checkpoint_check_hook import SAM2CheckpointCheckHook
from projects.sam2.engine.hooks.checkpoint_hook import SAM2CheckpointHook
from projects.sam2.engine.hooks.compile_hook import SAM2CompileHook
from projects.sam2.engine.hooks.diagnostics_hook import ClipDiagnosticsHook
from projects.sam2.engine.hooks.gradient_compression_hook import (
    SAM2GradientCompressionHook,
)
from projects.sam2.engine.hooks.low_memory_hook import SAM2LowMemoryHook
from projects.sam2.engine.hooks.non_finite_hook import ClipNonFiniteHook
from projects.sam2.engine.hooks.preemption_hook import ClipPreemptionHook
from projects.sam2.engine.hooks.random_state_hook import ClipRandomStateHook
from projects.sam2.engine.hooks.visualization_hook import ClipVisualizationHook

__all__ = [
    'ClipDiagnosticsHook',
    'ClipNonFiniteHook',
    'ClipPreemptionHook',
    'ClipRandomStateHook',
    'ClipVisualizationHook',
    'SAM2CheckpointCheckHook',
    'SAM2CheckpointHook',
    'SAM2CompileHook',
    'SAM2GradientCompressionHook',
    'SAM2LowMemoryHook',
]
