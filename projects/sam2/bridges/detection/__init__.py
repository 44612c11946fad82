"""Detectors of mmdetection with SAM 2: boxes become masks, or prompts are learned."""
