"""Pixel layer L4: text that a machine wrote into an image, found so that it can be masked."""

from fedimg.dicom.text.detector import TextDetector
from fedimg.dicom.text.views import Box, Frames

__all__ = ["Box", "Frames", "TextDetector"]
