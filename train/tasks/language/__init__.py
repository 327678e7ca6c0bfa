"""Task `language`: training, evaluation and sampling of language models.

Read `task.py` first, then `evaluate.py` (perplexities of texts, accuracies of multiple choice) and
`sample.py` (the verb sample). `convert.py` is the verb convert: GPT-2 weights of Hugging Face as a
workdir, and a workdir as such weights. The networks are in `models/gpt/`, the text in `data/text/`.

The room imports `models`, `data.text` and the core of `train`. It is imported by `train.tasks`, and
`convert` by the verb of that name.
"""
