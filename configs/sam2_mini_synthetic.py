"""A small SAM 2.1 from random weights on generated clips: the quickstart."""

_base_ = [
    './_base_/models/sam2_1_mini.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/mini.py',
    './_base_/default_runtime.py',
]
