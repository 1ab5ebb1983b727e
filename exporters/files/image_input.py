"""The image that a file takes: its layout, size and preprocessing, read from the shape and the type of its input."""

from __future__ import annotations

import numpy as np

from backends.device.artifact import Layout, Preproc
from backends.device.errors import UserError
from exporters.files.description import Description
from exporters.files.input_range import held

CHANNEL_AXIS: dict[Layout, int] = {"nchw": 1, "nhwc": 3}
# what an input holds whose integers are the pixels themselves
PIXEL_RANGES = ((0, 1), (0, 255), (-1, 1), (-128, 127), (-0.5, 0.5))


def guess_layout(file: Description) -> Layout | None:
    """Return the layout in which a file's input has three channels; None where none does, or both do."""
    shape = file.inputs[0].shape or ()
    fitting = [layout for layout, axis in CHANNEL_AXIS.items() if len(shape) == 4 and shape[axis] == 3]
    return fitting[0] if len(fitting) == 1 else None


def layout_or_default(file: Description, given: Layout | None) -> Layout:
    """Return the layout that a user gave, else that of the file's shape, else the format's usual one."""
    return given or guess_layout(file) or ("nhwc" if file.format == "tflite" else "nchw")


def image_layout(file: Description, given: Layout | None = None) -> Layout:
    """Return the layout of a file's RGB image, `given` or read from its shape; raise a `UserError` if it is neither."""
    if len(file.inputs) != 1:
        raise UserError(f"{file.path}: expected one image as input, got {len(file.inputs)} inputs")
    shape = file.inputs[0].shape or ()
    takes = f"{file.path}: takes inputs {'x'.join('n' if d < 0 else str(d) for d in shape) or 'of unknown shape'}"
    if len(shape) != 4:
        raise UserError(f"{takes}, expected an image with four axes: nx3xHxW or nxHxWx3")
    if given is not None:
        if shape[CHANNEL_AXIS[given]] not in (3, -1):
            raise UserError(f"{takes}, which is not {given}: expected three channels")
        return given
    found = guess_layout(file)
    if found is None and 3 in (shape[1], shape[3]):
        raise UserError(f"{takes}, which may be nchw or nhwc: say its layout")
    if found is None:
        raise UserError(f"{takes}, expected three channels (RGB): nx3xHxW or nxHxWx3")
    return found


def require_free_batch(file: Description) -> None:
    """Raise a `UserError` for a file whose first axis takes another number of images than one, or than any."""
    shape = file.inputs[0].shape if file.inputs else None
    if shape and shape[0] not in (1, -1):
        raise UserError(
            f"{file.path}: takes {shape[0]} images at a time, expected one or any number: export it with a batch of 1, "
            "or with a dynamic first axis"
        )


def image_axes(file: Description, layout: Layout) -> tuple[int, int]:
    """Return (height, width) of a file's image, -1 where it takes any."""
    shape = file.inputs[0].shape or ()
    height, width = (axis for i, axis in enumerate(shape[1:], 1) if i != CHANNEL_AXIS[layout])
    return height, width


def image_size(file: Description, layout: Layout) -> tuple[int, int]:
    """Return (height, width) of a file's image; a dynamic one is a `UserError`."""
    height, width = image_axes(file, layout)
    if min(height, width) < 1:
        raise UserError(f"{file.path}: its input has no fixed height and width; a twin needs them")
    return height, width


def guess_preproc(file: Description, layout: Layout) -> Preproc:
    """Guess the preprocessing from a file's input: pixels in 0 to 1, or the pixels themselves as its integers.

    The latter where an 8-bit input holds other reals than 0 to 1.
    """
    entry = file.inputs[0]
    if entry.dtype not in ("int8", "uint8") or len(entry.scale) != 1:
        return Preproc(layout=layout)
    scale = float(np.float32(entry.scale[0]))
    holds = held(file)
    if holds and abs(holds[0]) < scale and abs(holds[1] - 1) < scale:
        return Preproc(layout=layout)
    mean = float(entry.zero_point[0] - int(np.iinfo(entry.dtype).min))
    std = 1 / scale
    return Preproc(layout=layout, divisor=1.0, mean=(mean,) * 3, std=(std,) * 3)


def certain_preproc(file: Description, layout: Layout) -> Preproc | None:
    """Return the preprocessing of a file whose input's range allows no other; None where it may be anything.

    An input of signed integers with zero point 0 holds as much below zero as above, whatever it is sent.
    """
    entry, holds = file.inputs[0], held(file)
    if holds is None or (holds[0] < 0 and entry.zero_point[0] == 0):
        return None
    plain = PIXEL_RANGES if entry.dtype in ("int8", "uint8") else PIXEL_RANGES[:1]
    step = float(np.float32(entry.scale[0]))
    fits = any(abs(holds[0] - low) <= step and abs(holds[1] - high) <= step for low, high in plain)
    return guess_preproc(file, layout) if fits else None
