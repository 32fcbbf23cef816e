"""bsqcodec: a neural image and video codec on BSQ tokens."""
