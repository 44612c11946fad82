"""Tracking: one frame, a clip in training, a video."""
