"""BLEU (Papineni et al. 2002) as sacrebleu computes it, with the signature that says which BLEU.

A family of numbers has this name. `bleu` is the one to report (Post 2018, arXiv 1804.08771): of the
text as it is written, tokenised by sacrebleu alike for everyone. `bleu_lc_tok` is lower-cased and
tokenised as by Moses' scripts before it is counted, which is what most papers on Multi30k print;
it lies one to two points higher, and the two are never compared.
"""

import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from train.errors import UserError

# Languages without spaces between words; sacrebleu's signature names what divided the text.
TOKENIZERS = {'zh': 'zh', 'ja': 'char', 'ko': 'char', 'th': 'char'}
LENGTHS = (10, 15, 20, 25, 30)  # words of a source, to which sentences are grouped


def scores(
  hypotheses: Sequence[str], references: Sequence[str], language: str
) -> tuple[dict[str, float], dict[str, Any]]:
  """Returns BLEU in percent, and what it is.

  Args:
    hypotheses: translations as text, not as tokens.
    references: one for each, unchanged.
    language: that of both.

  Returns:
    Metrics `bleu` and, where sacremoses is installed, `bleu_lc_tok`; facts with their signatures,
    and the lengths in tokens from which the brevity penalty comes.

  Raises:
    UserError: sacrebleu is not installed.
  """
  metric = _metric(language)
  found = metric.corpus_score(list(hypotheses), [list(references)])
  metrics: dict[str, float] = {'bleu': found.score}
  facts = {
    'bleu_signature': str(metric.get_signature()),
    'bleu_brevity_penalty': found.bp,
    'bleu_tokens': found.sys_len,
    'bleu_reference_tokens': found.ref_len,
  }
  tokenised = _moses(language)
  if tokenised is None:
    return metrics, {**facts, 'bleu_lc_tok_signature': 'not measured: pip install sacremoses'}
  papers = _sacrebleu().BLEU(lowercase=True, tokenize='none', force=True)
  sides = [[tokenised(line) for line in side] for side in (hypotheses, references)]
  metrics['bleu_lc_tok'] = papers.corpus_score(sides[0], [sides[1]]).score
  facts['bleu_lc_tok_signature'] = f'{papers.get_signature()}, on text tokenised by sacremoses'
  return metrics, facts


def by_length(
  hypotheses: Sequence[str], references: Sequence[str], sources: Sequence[str], language: str
) -> list[dict[str, Any]]:
  """Returns `bleu` of sentences of like length, as figure 2 of Bahdanau et al. 2015 shows it.

  Returns:
    For each group that is not empty: `words`, of the source, such as '11-15'; `sentences`; `bleu`.
  """
  lengths = np.array([max(1, len(source.split())) for source in sources])
  metric, groups = _metric(language), []
  bounds = (0, *LENGTHS, max(int(lengths.max(initial=0)), LENGTHS[-1]))
  for low, high in itertools.pairwise(bounds):
    rows = np.flatnonzero((lengths > low) & (lengths <= high)).tolist()
    if rows:
      sides = [[side[row] for row in rows] for side in (hypotheses, references)]
      bleu = metric.corpus_score(sides[0], [sides[1]]).score
      groups.append({'words': f'{low + 1}-{high}', 'sentences': len(rows), 'bleu': bleu})
  return groups


def _sacrebleu() -> Any:
  try:
    return importlib.import_module('sacrebleu.metrics')
  except ImportError as error:
    raise UserError('BLEU needs sacrebleu: python -m pip install sacrebleu sacremoses') from error


def _metric(language: str) -> Any:
  # `force`: a hypothesis may well end in a full stop after a space; it is text all the same.
  return _sacrebleu().BLEU(tokenize=TOKENIZERS.get(language, '13a'), force=True)


def _moses(language: str) -> Callable[[str], str] | None:
  """Returns what Multi30k's papers do to both sides; None without sacremoses."""
  try:
    moses = importlib.import_module('sacremoses')
  except ImportError:
    return None
  normalise = moses.MosesPunctNormalizer(language).normalize
  tokenise = moses.MosesTokenizer(language).tokenize
  return lambda line: tokenise(normalise(line.lower()), return_str=True, escape=False)
