"""For 80 GB: the published schedule, nothing computed twice."""

_base_ = './finetune_40e.py'
