"""Runs scripts written for the released SAM 2: `import sam2` finds this project.

Import this package before anything of ``sam2``::

    import projects.sam2.as_sam2  # noqa: F401
    from sam2.build_sam import build_sam2_video_predictor

``python -m projects.sam2.as_sam2 script.py --its options`` does so for an unchanged
script. ``import projects.sam2`` alone changes nothing.
"""

from .finder import install

__all__ = ['install']

install()
