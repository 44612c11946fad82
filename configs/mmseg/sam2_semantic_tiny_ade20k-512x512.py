"""A map of ADE20K's 150 classes by a frozen SAM 2.1 tiny; the decoder is trained."""

_base_ = ['../_base_/mmseg/sam2_semantic.py', 'mmseg::_base_/datasets/ade20k.py']
