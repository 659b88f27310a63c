"""From feature maps to logits, one file each; `_pyramid` is shared inside the family."""
