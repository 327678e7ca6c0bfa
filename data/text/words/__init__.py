"""Texts as words, for Word2Vec: of any size, since no file is ever in memory as a whole.

Read in this order:
  reading.py      the words of files, folders and archives, piece by piece; Python's own docs
  vocabulary.py   which words count, how often they are kept, and their Huffman tree
  phrases.py      words that belong together, joined by "_"
  corpus.py       a text as numbers of words, written once and mapped into memory
  source.py       the config section
  questions.py    analogies and similarities that vectors are evaluated on
  vectors.py      word2vec's files of vectors, text and binary
"""
