"""Files on disk: images, frames, lists of names, JSON, and the errors of bad data."""
