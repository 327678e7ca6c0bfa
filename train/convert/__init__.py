"""The verb `convert`: public weights as a run folder, and a run's weights for others.

1. `incoming.py`: makes the run folder.
2. `format.py`: what a format is. `formats.py`: the formats by name, and how one is recognised.
3. `language.py`: GPT-2, Llama and their like, read and written. `vision.py`: ResNet, AlexNet.
   `diffusion.py`: DDPM, DiT. `go.py`: networks of Leela Zero, read and written. `words.py`:
   word2vec's vectors, read and written.
4. `folders.py`: folders that get their name when they are complete.

A new format is a function that recognises its files, one that converts them, and a line in FORMATS.
The room imports all of `train`, `models` and `data`; nothing but the command line imports it.
"""

from train.convert.go import export_leelaz as export_leelaz
from train.convert.incoming import import_weights as import_weights
from train.convert.language import export_hf as export_hf
from train.convert.words import export_word2vec as export_word2vec
