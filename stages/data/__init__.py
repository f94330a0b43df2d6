"""From original files to batches of images."""
