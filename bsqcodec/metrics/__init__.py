"""Distances between a picture and its reconstruction: one file each, one signature.

`metric(reference, picture)` takes two H x W x 3 uint8 R'G'B' arrays of one shape. Nothing is imported
here: PSNR needs numpy alone, the structural ones load torch.
"""
