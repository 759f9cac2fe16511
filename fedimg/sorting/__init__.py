"""Which modality, body part and view a file shows: headers first, then words, then a look at the image."""

from fedimg.sorting.answer import UNKNOWN, Answer, Asked, Because, By
from fedimg.sorting.looking import Sorter
from fedimg.sorting.table import Listed, sort_folder

__all__ = ["UNKNOWN", "Answer", "Asked", "Because", "By", "Listed", "Sorter", "sort_folder"]
