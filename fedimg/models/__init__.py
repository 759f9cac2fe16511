"""Networks as pure functions of one flat parameter vector, fit for patient-level privacy."""

from fedimg.models.architecture import Architecture
from fedimg.models.build import build_model, extension_digests
from fedimg.models.config import ModelConfig
from fedimg.models.network import Layout, Network

__all__ = ["Architecture", "Layout", "ModelConfig", "Network", "build_model", "extension_digests"]
