"""Task `translation`: a network predicts each piece of a translation from the source."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

import models
import models.summary
from data.text.parallel.source import ParallelText
from models.seq2seq import contract
from models.seq2seq.beam import Beam
from models.seq2seq.contract import PAD, Seq2Seq
from train import mesh as mesh_lib
from train.errors import UserError, unknown, user_errors
from train.step import make_eval
from train.task import Batch, Evaluation, Metrics, Source, Task, Variables
from train.tasks import reading
from train.tasks.translation import alignment, bleu
from train.tasks.translation import translate as translate_lib
from train.tasks.translation.translate import Translator

BEAMS, ALPHA = 5, 0.6
GREEDY = Beam(beams=1)


class Translation(Task):
  """The task `translation`: the mean cross-entropy of the pieces of translations, in nats.

  Args:
    model: the config's section; one of `models.SEQ2SEQ`.
    data: pairs of sentences, with their joint vocabulary.
    label_smoothing: the share of a target's probability that all pieces have evenly, in training
      (Vaswani 2017, section 5.4). Evaluations are without.
    chunk: at how many positions of a row logits are computed at a time, 0 for all at once.
    bleu_sentences: how many sentences of the evaluation split are translated greedily, and scored,
      at each evaluation in training; 0: none.
    preview: how many of them are shown at each evaluation.

  Raises:
    UserError: a number is out of its range, or the network is no encoder-decoder.
  """

  def __init__(
    self,
    model: Mapping[str, Any],
    data: ParallelText,
    *,
    label_smoothing: float = 0.1,
    chunk: int = 0,
    bleu_sentences: int = 0,
    preview: int = 4,
  ):
    if not 0 <= label_smoothing < 1:
      raise UserError(f'task.label_smoothing={label_smoothing}: must be from 0 to below 1')
    for name, value in (
      ('chunk', chunk),
      ('bleu_sentences', bleu_sentences),
      ('preview', preview),
    ):
      if value < 0:
        raise UserError(f'task.{name}={value}: must be at least 0')
    if (name := model['name']) not in models.SEQ2SEQ:
      raise unknown(f'model.name={name!r}', name, 'no encoder-decoder', models.SEQ2SEQ)
    self.data, self.label_smoothing, self.chunk = data, label_smoothing, chunk
    self.bleu_sentences, self.preview = bleu_sentences, preview
    if bleu_sentences:
      bleu.scores(['a'], ['a'], data.languages[1])  # before training, if it is not installed
    with user_errors():
      built = models.build(**{**model, 'vocab_size': data.vocab_size})
    self.model = cast(Seq2Seq, built)
    if data.block_size > self.model.block_size:
      raise UserError(
        f'data.block_size={data.block_size}: must be at most model.block_size, which is'
        f' {self.model.block_size}'
      )

  @property
  def batch_size(self) -> int:
    """What the rows of every training batch are a multiple of."""
    return self.data.batch_size

  @property
  def metrics(self) -> Sequence[str]:
    """The metrics of the evaluation split."""
    return ('val/loss', *(['val/bleu'] if self.bleu_sentences else []))

  @property
  def throughput(self) -> tuple[str, int]:
    """What rates count, and how many of it a batch has: pieces of the target and padding."""
    rows, length = self.data.shape
    return 'padded pieces', rows * length

  @property
  def flops(self) -> float | None:
    """FLOPs of a training step on the longest sentences; padding counts."""
    rows, length = self.data.shape
    per_pair = self.model.flops_per_pair(length, length)
    return None if per_pair is None else rows * per_pair

  def summary(self) -> str:
    """Returns a table of the parameters."""
    shapes = jax.eval_shape(self.init, jax.random.key(0))
    return models.summary.parameter_table(mesh_lib.unbox(shapes)['params'])

  def close(self) -> None:
    """Closes the data."""
    self.data.close()

  def fingerprints(self) -> Mapping[str, str]:
    """Returns split -> a hash of its data."""
    return self.data.fingerprints()

  def init(self, key: Array) -> Variables:
    """Returns the network's initial variables."""
    pieces = jnp.zeros((1, 2), jnp.int32)
    return self.model.init(key, pieces, pieces)

  def loss(
    self, variables: Variables, batch: Batch, key: Array, *, train: bool
  ) -> tuple[Array, tuple[Variables, Metrics]]:
    """Returns the mean loss of a piece, no variables, and the metrics `loss` and `cross_entropy`.

    Both are of target pieces alone, EOS among them; the second is without smoothing.

    Args:
      variables: the network's.
      batch: `source` and `target` int32 `[B, L]`, `mask` `[B]`, `index` `[B]` the pairs' numbers.
      key: of dropout.
      train: whether dropout acts, and labels are smoothed.
    """
    target = batch['target']
    sums: Any = self.model.apply(
      variables,
      batch['source'],
      target,
      batch['mask'][:, None] * (target != PAD),
      smoothing=self.label_smoothing if train else 0.0,
      chunk=self.chunk,
      train=train,
      # The pair's number: another mask on each device and in each microbatch.
      rngs={'dropout': jax.random.fold_in(key, batch['index'][0])} if train else None,
      method=contract.loss,
    )
    total, nats, weight = sums
    metrics = {'loss': (total, weight), 'cross_entropy': (nats, weight)}
    return total / jnp.maximum(weight, 1), ({}, metrics if train else {'loss': (total, weight)})

  def source(self, split: str, mesh: Mesh, seed: int) -> Source:
    """Returns the stream of training batches."""
    return reading.training(self.data, split, mesh, seed)

  def evals(self, mesh: Mesh) -> Mapping[str, Evaluation]:
    """Returns 'val': nats a piece of the evaluation split, and BLEU of some of it."""
    batches = reading.evaluation(self.data, self.data.eval_split, mesh)
    measure = make_eval(self)

    def evaluate(variables: Variables) -> Mapping[str, float]:
      found = measure(variables, batches)
      if self.bleu_sentences:
        sources, references = self.data.lines(self.data.eval_split)
        some = self.translator(variables, GREEDY)(sources[: self.bleu_sentences])
        texts, language = [one.text for one in some], self.data.languages[1]
        found['bleu'] = bleu.scores(texts, references[: len(texts)], language)[0]['bleu']
      return found

    return {'val': evaluate}

  def translator(self, variables: Variables, beam: Beam, name: str = 'translate') -> Translator:
    """Returns what translates sentences with these variables."""
    return Translator(self.model, variables, self.data, beam, name)

  def examine(
    self,
    ensemble: Sequence[Variables],
    mesh: Mesh,
    *,
    beams: int = BEAMS,
    alpha: float = ALPHA,
  ) -> tuple[dict[str, float], dict[str, Any], dict[str, np.ndarray]]:
    """Measures loss, perplexity and BLEU of the test split.

    Args:
      ensemble: one network's variables.
      mesh: where the loss is measured; one device translates.
      beams: see `models.seq2seq.beam.Beam`, as for the next.
      alpha: of the length penalty.

    Returns:
      Metrics, metadata for `eval.json`, and no arrays.

    Raises:
      UserError: there are several networks, or sacrebleu is not installed.
    """
    if len(ensemble) > 1:
      raise UserError(f'{len(ensemble)} workdirs: translations are evaluated one by one')
    beam, split, language = make_beam(beams, alpha), self.data.test_split, self.data.languages[1]
    with user_errors(), mesh_lib.activate(mesh):
      loss = make_eval(self)(ensemble[0], reading.evaluation(self.data, split, mesh))['loss']
      sources, references = self.data.lines(split)
      translator = self.translator(ensemble[0], beam, f'eval, {split}')
      texts = [one.text for one in translator(sources)]
    translator.remarks.say()
    scores, facts = bleu.scores(texts, references, language)
    # Of sentences of a few words BLEU, which counts four words in a row, says nothing.
    exact = float(np.mean([ours == theirs for ours, theirs in zip(texts, references, strict=True)]))
    metrics = {'loss': loss, 'perplexity': math.exp(min(loss, 700)), **scores, 'exact_share': exact}
    facts |= {'split': split, 'sentences': len(texts), 'beams': beams, 'alpha': alpha}
    facts['bleu_by_length'] = bleu.by_length(texts, references, sources, language)
    return {f'test/{name}': value for name, value in metrics.items()}, facts, {}

  def draw(self, variables: Variables, key: Array) -> dict[str, bytes]:
    """Returns 'translations.txt', and pictures of the attention in the first that has an end."""
    del key
    if not self.preview:
      return {}
    pairs = self.data.lines(self.data.eval_split)
    sources, references = (side[: self.preview] for side in pairs)
    found = self.translator(variables, GREEDY)(sources)
    blocks = (
      f'{source}\n{reference}\n> {ours.text}\n'
      for source, reference, ours in zip(sources, references, found, strict=True)
    )
    files = {'translations.txt': '\n'.join(blocks).encode()}
    ended = [i for i, ours in enumerate(found) if ours.ended]
    if ended:
      files |= self.draw_attention(variables, sources[ended[0]], found[ended[0]].ids)
    return files

  def draw_attention(
    self, variables: Variables, sentence: str, target: Sequence[int]
  ) -> dict[str, bytes]:
    """Returns 'attention.png', and of several heads or layers 'attention_heads.png' as well.

    A network without attention has no picture.
    """
    source, tokenizer = [*self.data.tokenizer.encode(sentence), contract.EOS], self.data.tokenizer
    with mesh_lib.on_one_device(variables) as whole:
      pieces = (jnp.asarray([side], jnp.int32) for side in (source, target))
      of_pairs: Any = self.model.apply(whole, *pieces, method='attention_maps')
    maps = np.asarray(of_pairs)[0]  # [layers, heads, T, S]
    if not maps.size:
      return {}
    of_layer = maps.mean(1)
    sharpest = of_layer[of_layer.max(-1).mean(-1).argmax()]
    words = [[*tokenizer.each(side), '(end)'] for side in (source, target)]
    files = {'attention.png': alignment.labelled(sharpest, *words)}
    several = maps.shape[0] * maps.shape[1] > 1
    return files | ({'attention_heads.png': alignment.every_head(maps)} if several else {})

  def translate(
    self,
    variables: Variables,
    mesh: Mesh,
    *,
    text: str | None = None,
    prompt: Sequence[str] = (),
    beams: int = BEAMS,
    alpha: float = ALPHA,
  ) -> None:
    """Translates the lines of a file, or of stdin, to stdout, in their order (verb translate).

    Args:
      variables: the network's.
      mesh: where they are; one device translates.
      text: a file; None: stdin.
      prompt: sentences to translate instead.
      beams: see `models.seq2seq.beam.Beam`, as for the next.
      alpha: of the length penalty.

    Raises:
      UserError: both a file and sentences are given, or a file cannot be read.
    """
    if text is not None and prompt:
      raise UserError('--text and --prompt: give one of them')
    beam = make_beam(beams, alpha)
    with mesh_lib.activate(mesh):
      translator = self.translator(variables, beam)
      if prompt:
        return translate_lib.translate(translator, prompt, sys.stdout, translate_lib.CHUNK)
      on_terminal = text is None and sys.stdin.isatty()
      at_once = 1 if on_terminal else translate_lib.CHUNK
      translate_lib.translate(translator, translate_lib.read_lines(text), sys.stdout, at_once)


def make_beam(beams: int, alpha: float) -> Beam:
  """Returns how to search, by the options of a command."""
  with user_errors():
    return Beam(beams, alpha)
