"""Training of bsqcodec models."""
