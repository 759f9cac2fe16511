"""placeholder"""

from dataclasses import dataclass
from pathlib import Path
from fedimg.prediction.results import Analysis


@dataclass
class Outputs:
    pass


def write_outputs(a, f):
    pass
