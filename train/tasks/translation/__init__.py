"""Task `translation`: training, evaluation and translation by encoder-decoders.

Read `task.py` first, then `translate.py` (lines to translations, the verb translate), `bleu.py`
(how they are scored) and `alignment.py` (pictures of attention). The networks and the beam search
are in `models/seq2seq/`, pairs of sentences in `data/text/parallel/`.

The room imports `models`, `data` and the core of `train`; `train.tasks` names it.
"""
