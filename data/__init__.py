"""Sources of batches. SOURCES: the classes that `config.data.name` chooses from."""

from typing import Any

from data.datasets import DATASETS
from data.images import ImageData
from data.text import TextData

SOURCES: dict[str, Any] = {'images': ImageData, 'text': TextData}

__all__ = ['DATASETS', 'SOURCES', 'ImageData', 'TextData']
