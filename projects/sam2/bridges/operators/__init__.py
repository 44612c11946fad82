"""Operators of mmcv in torch: one file per subject, with mmcv's own signatures.

They take the arguments of the functions in mmcv's ``_ext``, so that ``mmcv.ops`` calls
them as it calls the compiled ones: what mmcv hands in to be filled is written in place.
They run on any device and compute in float32 or float64.
"""
