"""What an annotator does to a video: objects, prompts, masks, undo, files."""
