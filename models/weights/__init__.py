"""Public weights: tensors of others' files, and the networks here that compute what they mean.

1. `files.py`: weights on disk, a folder or one file, opened as far as is asked.
2. `safetensors_folder.py`: tensors of safetensors, in one file or in shards.
3. `torch_file.py`, `torch_pickle.py`: tensors of `torch.save`, of which nothing is executed.
4. `checks.py`: settings and tensors that are not the network's. `mapping.py`: their names, shapes
   and layouts, and ours.
5. `resnet.py`, `alexnet.py`, `unet.py`, `dit.py`: the names of each network.

Beside these, `leelaz.py` is Leela Zero's text format; the names of language models are in
`models/gpt/gpt2.py` and `llama.py`. Nothing here needs torch. The verb `convert` (`train/convert/`)
makes run folders of what is read.
"""
