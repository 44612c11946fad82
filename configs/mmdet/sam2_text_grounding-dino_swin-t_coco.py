"""SAM 2.1 tiny segments what GroundingDINO finds for the names of classes.

The classes may be any words: set ``metainfo=dict(classes=('…',))`` of the dataset.
"""

_base_ = [
    'mmdet::grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py',
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

val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
