"""Networks from images to raw embedding vectors; stages/core/models.py registers them."""
