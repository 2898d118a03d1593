"""Torch only: tensors in, tensors out."""
