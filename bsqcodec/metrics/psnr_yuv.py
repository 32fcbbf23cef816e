"""PSNR over luma and chroma with the weights 6:1:1 of the video standards' tests (JVET, DCVC)."""

import numpy as np

from bsqcodec.metrics.pair import check_pair
from bsqcodec.metrics.psnr import psnr_of_mse

WEIGHTS = (6, 1, 1)
BT709 = (0.2126, 0.7152, 0.0722)


def psnr_yuv(reference: np.ndarray, picture: np.ndarray) -> float:
    """(6 PSNR_Y + PSNR_U + PSNR_V) / 8 in dB, infinite where one of the planes is without error.

    Both pictures are H x W x 3 uint8 R'G'B'; Y'CbCr is taken from them in float32 (BT.709 matrix, full
    range, scale 0..255) and chroma reduced to 4:2:0 by the mean of each 2 x 2 pixels (an odd side repeats its
    last line), so that every codec is measured alike whatever planes its own file holds.
    InputError where the shapes differ.
    """
    check_pair(reference, picture)
    difference = reference.astype(np.float32) - picture
    decibels = [psnr_of_mse(float(np.square(plane).mean())) for plane in _planes(difference)]
    return sum(weight * value for weight, value in zip(WEIGHTS, decibels, strict=True)) / sum(WEIGHTS)


def _planes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, Cb and Cr; linear, so those of a difference are the differences of theirs."""
    red, green, blue = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    luma = BT709[0] * red + BT709[1] * green + BT709[2] * blue
    return (
        luma,
        _halve(blue - luma) / (2 - 2 * BT709[2]),
        _halve(red - luma) / (2 - 2 * BT709[0]),
    )


def _halve(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    even = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge") if height % 2 or width % 2 else plane
    halved: np.ndarray = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return halved
