"""Detect and track: any detector finds objects, SAM 2 follows them."""
