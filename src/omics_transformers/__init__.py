"""Models that read DNA, RNA and chromatin together, in the Hugging Face ecosystem."""

from .version import __version__

__all__ = ["__version__"]
