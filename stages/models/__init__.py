"""Models on disk: checkpoints, pretrained weights, users' own models, and embedding with them."""
