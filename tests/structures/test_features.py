"""Features are taken frame by frame, for as many objects as ask for them."""

import torch

from projects.sam2.structures import ImageFeatures


def test_frames_are_selected_with_repetition_and_share_the_position() -> None:
    features = ImageFeatures(
        embedding=torch.arange(3.0).reshape(3, 1, 1, 1),
        position=torch.zeros(1, 1, 1, 1),
        high_res_8=torch.arange(3.0).reshape(3, 1, 1, 1) + 10,
        high_res_4=torch.arange(3.0).reshape(3, 1, 1, 1) + 20,
    )
    chosen = features.select(torch.tensor([2, 0, 2]))
    assert chosen.embedding.flatten().tolist() == [2, 0, 2]
    assert chosen.high_res_8.flatten().tolist() == [12, 10, 12]
    assert chosen.high_res_4.flatten().tolist() == [22, 20, 22]
    assert chosen.position is features.position
