"""Lets scripts written for SAM 2's release run: `import sam2` finds this project.

Importing this package is all there is to do, before anything of ``sam2`` is imported::

    import projects.sam2.as_sam2  # noqa: F401
    from sam2.build_sam import build_sam2_video_predictor

``python -m projects.sam2.as_sam2 script.py --its options`` does it for a script that
is left as it is. Nothing of this is done by ``import projects.sam2``.
"""

from .finder import install

__all__ = ['install']

install()
