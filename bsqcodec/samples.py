"""A real photograph and a short clip that come with the package's dependencies: nothing is downloaded.

The photograph is NASA's portrait of Eileen Collins (public domain), which scikit-image ships in its wheel.
"""

import math

import numpy as np

CLIP_WIDTH, CLIP_HEIGHT = 320, 192
PERIOD_FRAMES = 60


def picture() -> np.ndarray:
    """The photograph: 512 x 512 x 3 uint8."""
    import skimage.data

    return np.ascontiguousarray(skimage.data.astronaut(), dtype=np.uint8)


def clip(frames: int = 33) -> np.ndarray:
    """A camera that wanders over the photograph: frames x 192 x 320 x 3 uint8.

    Whole-pixel steps along an ellipse that closes after 60 frames: nothing is interpolated, all is sharp.
    """
    photograph = picture()
    height, width, _ = photograph.shape
    reach_x, reach_y = (width - CLIP_WIDTH) / 2, (height - CLIP_HEIGHT) / 2

    def view(index: int) -> np.ndarray:
        angle = 2 * math.pi * index / PERIOD_FRAMES
        left = round(reach_x * (1 - math.cos(angle)))
        top = round(reach_y * (1 - math.sin(angle)))
        return photograph[top : top + CLIP_HEIGHT, left : left + CLIP_WIDTH]

    return np.stack([view(index) for index in range(frames)])
