"""Task `language`: training, evaluation and sampling of language models.

Read `task.py` first, then `evaluate.py` (perplexities of texts, accuracies of multiple choice) and
`sample.py` (the verb sample). The networks are in `models/gpt/`, the text in `data/text/`; public
weights come and go by `train/convert`.

The room imports `models`, `data.text` and the core of `train`; `train.tasks` names it.
"""
