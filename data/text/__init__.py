"""Text for language models: sets by name, tokenizers, and rows of tokens.

Read in this order:
  datasets.py    the sets by name: splits of documents; files.py reads their files
  tokenizer.py   what a tokenizer is; tokenizers.py and bpe.py have the kinds
  tokenizer_folder.py   those of Hugging Face's and OpenAI's folders
  choose_tokenizer.py   the tokenizer that `data.tokenizer` names, learnt or loaded
  corpus.py      a split as one stream of tokens, encoded once and mapped into memory
  rows.py        how a stream is cut into the rows of a batch
  source.py      the config section
  evaluation.py  other texts and multiple-choice questions that a model is evaluated on

`train.tasks.language` imports it; it imports the modules of `data` itself and nothing else of ours.
"""
