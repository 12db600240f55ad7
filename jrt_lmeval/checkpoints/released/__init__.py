"""Checkpoints that others released: Hazy Research's JRT, Based, Transformer and Mamba, and state-spaces' Mamba.

One module a family, each a table old name -> new name. Nothing in a downloaded file is ever run: class names in a
configuration are looked up in a dict and refused if they are not there, weights are read as tensors and nothing else.
"""
