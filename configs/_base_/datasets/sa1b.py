"""SA-1B: images as clips of one frame; validates on those in holdout.txt."""

_base_ = '../pipelines/images.py'

data_root = 'data/SA-1B'
train_dataloader = dict(
    dataset=dict(
        type='ClipSA1BDataset',
        data_root=data_root,
        exclude_list='holdout.txt',
        min_scores=dict(stability_score=0.9, predicted_iou=0.8),
        max_area_share=0.9,  # larger masks are background
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='ClipSA1BDataset',
            data_root=data_root,
            file_list='holdout.txt',
            max_area_share=0.9,
        ),
    ),
)
test_dataloader = val_dataloader
