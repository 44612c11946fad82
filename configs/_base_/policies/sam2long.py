"""SAM2Long (Ding et al., 2024): several histories of each object, the best one shown.

The values are those of its release; more pathways cost time in proportion.
"""

memory_bank = dict(
    type='MemoryBankSAM2Long',
    num_pathways=3,
    iou_threshold=0.1,
    uncertainty=2.0,
    modulation=(0.95, 1.05),
)
