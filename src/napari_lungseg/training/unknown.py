"""The label of pixels that nothing is known of; apart from the losses, so that what is painted needs no torch."""

IGNORE = 255
"""Counts for nothing in a loss, and cannot be painted."""
