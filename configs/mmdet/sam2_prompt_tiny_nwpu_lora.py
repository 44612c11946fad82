"""As ``sam2_prompt_tiny_nwpu.py``, with adapters in SAM 2. Needs ``peft``."""

_base_ = ['./sam2_prompt_tiny_nwpu.py', '../_base_/mmdet/sam2_prompt_lora.py']

model = dict(backbone=_base_.adapted_sam2)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.adapted_rates))
