"""Records that pass between the stages of the system.

Legend of the shape letters used in every docstring and comment of the project:

========  ==================================================================
B         clips (videos) of a batch
T         frames of a clip or video
O         objects: those of all clips of a batch, one after another
M         candidate masks of one decoding (1 or 3)
P         points of a prompt; a box counts as two
C, Cm     channels of the model (256), channels of a memory (64)
N         tokens
H, W      height and width in pixels of the frame that the model sees
H4, W4    the same at stride 4 (likewise H8, W8, H16, W16)
========  ==================================================================

Coordinates are ``(x, y)`` in pixels of the frame that the model sees, unless a
docstring says otherwise. Frames are RGB.
"""

import lazy_loader

# The names are in __init__.pyi; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
