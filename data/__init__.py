"""Sources of batches. SOURCES: the classes that `config.data.name` chooses from."""

from data.datasets import DATASETS
from data.images import ImageData

SOURCES = {'images': ImageData}

__all__ = ['DATASETS', 'SOURCES', 'ImageData']
