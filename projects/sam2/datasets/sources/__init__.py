"""One file for each layout of annotated data."""
