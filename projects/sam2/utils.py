"""What OpenMMLab's tools expect of a package: ``register_all_modules``."""

from importlib import import_module

from .installation import NAME, WHEEL_NAME


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register all parts, as mmdetection's and mmsegmentation's function of this name.

    Importing the package does the same; ``mmengine.hub.get_model`` calls this.

    Args:
        init_default_scope: Make ``mmsam2`` the default scope of MMEngine.
    """
    import_module(f'{NAME}.registration')
    if init_default_scope:
        from mmengine.registry import init_default_scope as set_scope  # noqa: PLC0415

        set_scope(WHEEL_NAME)
