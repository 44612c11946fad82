"""SAM 2.1 tiny turns the boxes of RTMDet tiny into masks."""

_base_ = [
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    '../_base_/mmdet/custom_imports.py',
]

model = dict(
    _delete_=True,
    type='SAM2MaskDetector',
    detector=_base_.model,
    sam2=dict(config='sam2.1_hiera_tiny'),
    sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
)

# SAM 2 segments the original image: it is kept from before Resize.
test_pipeline = _base_.test_pipeline
test_pipeline.insert(1, dict(type='SAM2KeepImage'))
test_pipeline[-1].update(meta_keys=[*test_pipeline[-1].meta_keys, 'sam2_image'])
tta_model = dict(type='SAM2MaskTTAModel')
tta_pipeline = _base_.tta_pipeline
tta_pipeline.insert(1, dict(type='SAM2KeepImage'))
tta_pack = tta_pipeline[-1].transforms[-1][0]
tta_pack.update(meta_keys=[*tta_pack.meta_keys, 'sam2_image'])

val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator

custom_hooks = [dict(type='SAM2ClassCheckHook')]
