"""Public weights: tensors of others' files, and the networks here that compute what they mean.

1. `files.py`: weights on disk, a folder or one file, opened as far as is asked.
2. `safetensors_folder.py`: tensors of safetensors, in one file or in shards.

`leelaz.py` reads and writes Leela Zero's text format; the names of language models are in
`models/gpt/{gpt2,llama}.py`. Nothing here needs torch, and nothing is executed
that a file holds. The verb `convert` (`train/convert/`) makes run folders of what is read.
"""
