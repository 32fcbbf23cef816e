"""Pictures out of nothing: a masked language model on BSQ tokens (arXiv 2406.07548, section 5.3)."""
