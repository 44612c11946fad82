"""Detect and track on YouTube-VIS 2021: mAP of masklets, and J&F.

The detector here was trained on COCO and knows 21 of the 40 classes. For all of them
give one that was trained on frames of YouTube-VIS.

The published validation split has no ground truth; a file to submit is written by
``test_evaluator=[dict(type='MaskletVISMetric', format_only=True,
outfile_prefix='results')]``.
"""

_base_ = '../_base_/mmdet/track_videos.py'

data_root = 'data/youtube_vis_2021/'
model = dict(
    detector='mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py',
    sam2='sam2.1_hiera_tiny',
    sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
    classes=(
        'airplane',
        'bear',
        'bird',
        'boat',
        'car',
        'cat',
        'cow',
        'deer',
        'dog',
        'duck',
        'earless_seal',
        'elephant',
        'fish',
        'flying_disc',
        'fox',
        'frog',
        'giant_panda',
        'giraffe',
        'horse',
        'leopard',
        'lizard',
        'monkey',
        'motorbike',
        'mouse',
        'parrot',
        'person',
        'rabbit',
        'shark',
        'skateboard',
        'snake',
        'snowboard',
        'squirrel',
        'surfboard',
        'tennis_racket',
        'tiger',
        'train',
        'truck',
        'turtle',
        'whale',
        'zebra',
    ),
    class_map={
        'frisbee': 'flying_disc',
        'motorcycle': 'motorbike',
        'mouse': None,  # the animal, not COCO's device
        'tennis racket': 'tennis_racket',
    },
)
test_dataloader = dict(
    dataset=dict(
        type='YouTubeVISDataset',
        dataset_version='2021',
        data_root=data_root,
        ann_file='annotations/youtube_vis_2021_valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
    )
)
val_dataloader = test_dataloader
