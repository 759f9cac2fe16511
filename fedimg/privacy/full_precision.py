"""Products of float32 numbers with all of their 24 bits, where an accelerator would take fewer.

cuDNN's convolutions round their float32 inputs to 11 bits by default (TF32), and some distributions of torch let matrix
products do the same. Gradients may be computed so: a patient's norm is then that of the gradient as it is. But where
the norm comes by one way and the sum by another (`bookkeeping`), a patient would contribute up to some
3·10⁻⁵ of C more than C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within: no TF32 on `device`. The settings are the process's, and are put back."""
    if device.type != "cuda":
        yield
        return
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products
