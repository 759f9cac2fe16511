"""The text detector: every plane of every frame, looked at by all its parts; what one finds is found."""

from __future__ import annotations

from fedimg.dicom.text.classical import text_lines
from fedimg.dicom.text.views import Box, Frames, planes

_MARGIN = 3  # pixels around a line


class TextDetector:
    """Finds lines of machine-written text. Deterministic; holds no state between images."""

    version = "classical-1"

    def find(self, frames: Frames) -> list[Box]:
        """Boxes around the lines of text, dilated and cut to the image, in order."""
        rows, columns = frames.values.shape[1:3]
        found = set()
        for index in range(len(frames.values)):
            for plane in planes(frames, index):
                for x0, y0, x1, y1 in text_lines(plane[None, :, :, None]):
                    found.add(
                        Box(
                            index,
                            max(x0 - _MARGIN, 0),
                            max(y0 - _MARGIN, 0),
                            min(x1 + _MARGIN, columns - 1),
                            min(y1 + _MARGIN, rows - 1),
                        )
                    )
        return sorted(found)
