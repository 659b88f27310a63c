"""Pretrained encoders, one file each; files with a leading underscore are shared inside the family."""
