"""The registered hooks."""

from .checkpoint_check_hook import SAM2CheckpointCheckHook
from .checkpoint_hook import SAM2CheckpointHook
from .compile_hook import SAM2CompileHook
from .diagnostics_hook import ClipDiagnosticsHook, SAM2RuntimeInfoHook
from .distillation_hook import SAM2DistillationHook
from .memory_hooks import SAM2GradientCompressionHook, SAM2LowMemoryHook
from .non_finite_hook import ClipNonFiniteHook
from .preemption_hook import ClipPreemptionHook
from .random_state_hook import ClipRandomStateHook
from .visualization_hook import ClipVisualizationHook

__all__ = [
    'ClipDiagnosticsHook',
    'ClipNonFiniteHook',
    'ClipPreemptionHook',
    'ClipRandomStateHook',
    'ClipVisualizationHook',
    'SAM2CheckpointCheckHook',
    'SAM2CheckpointHook',
    'SAM2CompileHook',
    'SAM2DistillationHook',
    'SAM2GradientCompressionHook',
    'SAM2LowMemoryHook',
    'SAM2RuntimeInfoHook',
]
