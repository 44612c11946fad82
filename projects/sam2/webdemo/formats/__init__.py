"""Annotation formats: exports and imports."""
