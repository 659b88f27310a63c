"""Configurations and checkpoints of TerraTorch, in and out; no TerraTorch is needed for either.

    config.yaml ──▶ importing (lines, trainer, data, model; names: vocabulary) ──▶ run.yaml and a report, line by line
    best.ckpt   ──▶ checkpoints ──▶ the same model here, with equal outputs
    runs/flood  ──▶ exporting ──▶ config.yaml and weights that TerraTorch loads

TerraTorch: arXiv 2503.20563, github.com/torchgeo/terratorch; read at version 1.2.11.
"""
