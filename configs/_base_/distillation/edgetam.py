"""EdgeTAM with a teacher, both losses at weight 1.

The losses and their weights are those of EdgeTAM's paper, as an independent
reproduction reports its Table 5. The size of the teacher is not known: the paper
compares with base+, the reproduction distils from large.
"""

_base_ = '../models/edgetam.py'

model = dict(
    type='SAM2Distillation',
    teacher='_base_/models/sam2_1_large.py',
    teacher_checkpoint='checkpoints/sam2.1_hiera_large.pt',
    feature_losses=[
        dict(type='SAM2FeatureLoss', feature='image', weight=1.0),
        dict(type='SAM2FeatureLoss', feature='memory', weight=1.0),
    ],
)
