"""For 80 GB: the published schedule, without activation checkpointing."""

_base_ = './finetune_40e.py'
