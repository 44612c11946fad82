"""Detect and track on YouTube-VIS 2019: mAP of masklets, and J&F.

The detector here was trained on COCO and knows 19 of the 40 classes. For all of them
give one that was trained on frames of YouTube-VIS.

The published validation split has no ground truth; a file to submit is written by
``test_evaluator=[dict(type='MaskletVISMetric', format_only=True,
outfile_prefix='results')]``.
"""

_base_ = '../_base_/mmdet/track_videos.py'

data_root = 'data/youtube_vis_2019/'
model = dict(
    detector='mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py',
    sam2='sam2.1_hiera_tiny',
    sam2_checkpoint='checkpoints/sam2.1_hiera_tiny.pt',
    classes=(
        'person',
        'giant_panda',
        'lizard',
        'parrot',
        'skateboard',
        'sedan',
        'ape',
        'dog',
        'snake',
        'monkey',
        'hand',
        'rabbit',
        'duck',
        'cat',
        'cow',
        'fish',
        'train',
        'horse',
        'turtle',
        'bear',
        'motorbike',
        'giraffe',
        'leopard',
        'fox',
        'deer',
        'owl',
        'surfboard',
        'airplane',
        'truck',
        'zebra',
        'tiger',
        'elephant',
        'snowboard',
        'boat',
        'shark',
        'mouse',
        'frog',
        'eagle',
        'earless_seal',
        'tennis_racket',
    ),
    class_map={
        'car': 'sedan',
        'motorcycle': 'motorbike',
        'mouse': None,  # the animal, not COCO's device
        'tennis racket': 'tennis_racket',
    },
)
test_dataloader = dict(
    dataset=dict(
        type='YouTubeVISDataset',
        dataset_version='2019',
        data_root=data_root,
        ann_file='annotations/youtube_vis_2019_valid.json',
        data_prefix=dict(img_path='valid/JPEGImages'),
    )
)
val_dataloader = test_dataloader
