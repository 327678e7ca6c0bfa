"""Task `words`: vectors of words, by Word2Vec.

Read `task.py` first, then `neighbours.py` (which words are near others, and the verb sample),
`evaluate.py` (analogies, similarities) and `map.py` (the vectors in two dimensions). The network
and its step are in `models/word2vec.py`, the text in `data/text/words/`; files of vectors come and
go by `train/convert`.

The room imports `models`, `data.text.words` and the core of `train`; `train.tasks` names it.
"""
