"""SAMURAI (Yang et al., 2024) with the values of its release.

``memory_bank_large`` is what the release has for Hiera-L instead.
"""

memory_bank = dict(
    type='MemoryBankSAMURAI',
    stable_frames_threshold=15,
    stable_ious_threshold=0.3,
    min_obj_score_logits=-1.0,
    kf_score_weight=0.25,
    memory_bank_iou_threshold=0.5,
    memory_bank_obj_score_threshold=0.0,
    memory_bank_kf_score_threshold=0.0,
)
memory_bank_large = dict(kf_score_weight=0.15)
