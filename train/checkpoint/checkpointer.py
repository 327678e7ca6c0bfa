"""Checkpoints: orbax writes and reads the arrays; what it leaves open is added here.

A folder `STEP/` holds one item for each part of the model (`params`, `extra`, `ema`: each can be
restored alone), `train` with what only training needs, and `meta`, a JSON record with the caller's
words, the shape of every array and its checksum. Orbax commits the folder by one rename.
"""

import contextlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from train.checkpoint.failures import all_agree, hush, together, writing
from train.checkpoint.record import (
  Damaged,
  arrays,
  check_structure,
  check_values,
  describe,
  full,
  nested,
  or_empty,
  seal,
  target,
  unseal,
  written,
)
from train.errors import UserError

Tree = Any
log = logging.getLogger(__name__)


class Checkpointer:
  """Saves and restores steps; keeps the newest `keep` and the best one.

  The best step has the least (`mode` 'min') or greatest ('max') finite `meta['metrics'][best]`;
  the later of equals; a step without that metric is never best. In a run of several processes all
  call every method, on one shared file system.
  """

  def __init__(
    self,
    directory: str,
    *,
    keep: int = 2,
    best: str | None = 'test/error',
    mode: str = 'min',
    read_only: bool = False,
  ) -> None:
    self._directory = os.path.abspath(directory)
    self._best, self._sign, self._read_only = best, {'min': 1, 'max': -1}[mode], read_only
    self._scores: dict[int, float] = {}  # step -> less is better
    self._manager = _Manager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=_NewestAndBest(keep, self.best_step),
        cleanup_tmp_directories=not read_only,  # another process may be writing them
        create=not read_only,
        save_root_metadata=False,
        lightweight_initialize=True,
      ),
    )
    self._load_scores()
    hush()

  # -------- what there is --------

  def steps(self) -> list[int]:
    """Returns the steps that are there, in order."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """Returns the best step that is still there; None if no step has the metric."""
    ranked = self._ranked()
    return ranked[0] if ranked else None

  def _ranked(self) -> list[int]:
    here = set(self.steps())
    # Less is better; of equal scores the later step.
    return sorted(here & self._scores.keys(), key=lambda step: (self._scores[step], -step))

  def _load_scores(self) -> None:
    self._scores.clear()
    for step in self.steps():
      # A record that cannot be read makes a step without a score, not a run that does not start.
      with contextlib.suppress(Exception):  # restore says so, if it comes to that
        self._note_score(step, self._read_record(step)['meta'])

  def _note_score(self, step: int, meta: Mapping[str, Any]) -> None:
    value = meta.get('metrics', {}).get(self._best)
    if value is not None and math.isfinite(value):  # NaN is neither less nor greater
      self._scores[step] = self._sign * value

  # -------- saving --------

  def save(
    self, step: int, model: Mapping[str, Tree], train: Mapping[str, Tree], meta: Mapping[str, Any]
  ) -> None:
    """Copies the arrays and returns; files are written behind, and `STEP/` appears when all are.

    The newest step again is taken as saved already.

    Raises:
      ValueError: an older step, or a leaf that is no array.
      NotSaved: this save failed, or behind our back an earlier one.
    """
    if self._read_only:
      raise ValueError(f'{self._directory} was opened to read only')
    newest = self._manager.latest_step()
    if newest == step:
      return
    if newest is not None and step < newest:
      raise ValueError(f'step {step}: {self._directory} already holds the later step {newest}')
    items = arrays({**model, 'train': dict(train)})  # orbax's close would hang on another leaf
    record = seal({'step': step, 'meta': dict(meta), 'leaves': describe(items)})
    # Before the save, since orbax asks `best_step` during it for what to delete.
    self._note_score(step, record['meta'])
    stored = {name: written(tree) for name, tree in items.items()}
    args = {name: ocp.args.StandardSave(tree) for name, tree in stored.items() if full(tree)}
    # Orbax copies the arrays to the host before it returns; the step may donate them then.
    with writing():
      self._manager.save(step, args=ocp.args.Composite(meta=ocp.args.JsonSave(record), **args))

  def wait(self) -> None:
    """Waits until all files are written; raises NotSaved if they could not be."""
    with writing():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for what is being written, and lets go of the folder."""
    with writing():
      try:
        self.wait()
      finally:
        self._manager.close()

  # -------- restoring --------

  def restore(
    self,
    model: Mapping[str, Tree],
    train: Mapping[str, Tree] | None = None,
    step: int | str | None = None,
  ) -> tuple[int, dict[str, Tree], dict[str, Tree] | None, dict[str, Any]] | None:
    """Returns (step, model, train, meta) of the newest step, of the 'best' one, or of a number.

    `model` and `train` are trees of `jax.ShapeDtypeStruct` with the shardings that the arrays are
    to have, on any devices; parts of the model that are not named are not read. A damaged step is
    passed over with a warning, unless it was asked for by its number; the steps passed over on the
    way from the newest go to the folder `damaged` beside ours: training will write them anew.
    Of a step that was saved without `train` (weights that came from elsewhere) `train` and `ema`
    come back as None. None: there are no steps.

    Raises:
      UserError: no such step, none is whole, or it holds another model or optimiser.
    """
    wanted = jax.tree.map(target, {**model, **({} if train is None else {'train': dict(train)})})
    found = self._first_whole(step, lambda record: wanted)
    if found is None:
      return None
    number, items, meta = found
    return number, items, items.pop('train', None), meta

  def restore_stored(self, step: int | str | None = None) -> tuple[int, dict[str, Tree]] | None:
    """Returns (step, model) by the shapes that the checkpoint itself records, on one device.

    Steps are chosen, and damage is met, as in `restore`. Trees of dicts alone: Flax's collections.
    """
    found = self._first_whole(step, lambda record: nested(record['leaves']))
    return None if found is None else found[:2]

  def _first_whole(
    self, step: int | str | None, wanted: Callable[[dict[str, Any]], Mapping[str, Tree]]
  ) -> tuple[int, dict[str, Tree], dict[str, Any]] | None:
    """Returns (step, items, meta) of the first candidate that is not damaged.

    wanted: from a checkpoint's record to the items to be read.
    """
    self.wait()
    self._manager.reload()  # another process may have saved
    damaged: dict[int, str] = {}
    for candidate in self._candidates(step):
      try:
        items, meta = self._restore(candidate, wanted)
      except Damaged as error:
        damaged[candidate] = str(error)
        log.warning('checkpoint %d in %s is damaged: %s', candidate, self._directory, error)
        continue
      # Only on the way from the newest: who asked for one step or the best does not go on from it.
      if step is None:
        self._move_aside(damaged)
      return candidate, items, meta
    if damaged:
      raise UserError(self._nothing_whole(damaged))
    return None

  def _candidates(self, step: int | str | None) -> list[int]:
    """Returns the steps to try, in order."""
    newest_first = self.steps()[::-1]
    if step is None or not newest_first:
      return newest_first
    if step == 'best':
      self._load_scores()
      ranked = self._ranked()
      if not ranked:
        log.warning('no step in %s has %s: taking the newest', self._directory, self._best)
      return ranked + [other for other in newest_first if other not in ranked]
    if step not in newest_first:
      choices = ', '.join(map(str, self.steps()))
      raise UserError(f'step {step!r} is not in {self._directory}; choose from best, {choices}')
    return [int(step)]

  def _nothing_whole(self, damaged: Mapping[int, str]) -> str:
    reasons = '; '.join(f'step {step} ({reason})' for step, reason in damaged.items())
    others = [step for step in self.steps() if step not in damaged]
    hint = f'choose from {", ".join(map(str, others))}' if others else 'no other step is there'
    return f'{self._directory}: damaged: {reasons}; {hint}'

  def _restore(
    self, step: int, choose: Callable[[dict[str, Any]], Mapping[str, Tree]]
  ) -> tuple[dict[str, Tree], dict]:
    record = together(lambda: self._read_record(step))
    wanted = choose(record)
    # Imported weights. Without an optimiser's state there was no training to average either.
    alone = not any(path.startswith('train/') for path in record['leaves'])
    missing = {'train', 'ema'} & wanted.keys() if alone else set()
    wanted = {name: tree for name, tree in wanted.items() if name not in missing}
    try:
      # Before any array is read: another network is no damage, and is the user's to correct.
      check_structure(record['leaves'], wanted)
    except ValueError as error:
      raise UserError(f'step {step} in {self._directory} holds another network: {error}') from None
    items = together(lambda: dict(self._read_items(step, wanted)))
    check_values(record['leaves'], items)
    return {**items, **dict.fromkeys(missing)}, record['meta']

  def _read_record(self, step: int) -> dict[str, Any]:
    with contextlib.closing(ocp.JsonCheckpointHandler()) as handler:
      record = unseal(handler.restore(self._item(step, 'meta'), ocp.args.JsonRestore()))
    if record['step'] != step:
      raise Damaged(f'the folder holds step {record["step"]}')
    return record

  def _read_items(self, step: int, wanted: Mapping[str, Tree]) -> Iterator[tuple[str, Tree]]:
    # Not through the manager: its barrier would wait for ever for a process that found damage.
    with contextlib.closing(ocp.StandardCheckpointHandler()) as handler:
      for name, tree in wanted.items():
        found = stored = written(tree)  # an item without numbers has no files
        if full(stored):
          found = handler.restore(self._item(step, name), args=ocp.args.StandardRestore(stored))
        yield name, jax.tree.map(or_empty, tree, found)

  def _item(self, step: int, name: str) -> epath.Path:
    return epath.Path(self._directory) / str(step) / name

  def _move_aside(self, steps: Collection[int]) -> None:
    if self._read_only or not steps:
      return
    folder = os.path.join(os.path.dirname(self._directory), 'damaged')
    if jax.process_index() == 0:  # one renames, all wait below
      os.makedirs(folder, exist_ok=True)
      for step in map(str, steps):
        shutil.rmtree(os.path.join(folder, step), ignore_errors=True)
        os.rename(os.path.join(self._directory, step), os.path.join(folder, step))
      log.warning('moved to %s: %s', folder, ', '.join(map(str, steps)))
    all_agree(True)
    self._manager.reload()


class _Manager(ocp.CheckpointManager):
  """Orbax's manager without its own question for preemption.

  It asks in the background with the step of the save, and so could set back the step that the
  processes are about to agree on.
  """

  def reached_preemption(self, step: int) -> bool:
    return False


class _NewestAndBest(PreservationPolicy):
  def __init__(self, keep: int, best_step) -> None:
    self._keep, self._best_step = keep, best_step

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = {*sorted(steps)[-self._keep :], self._best_step()}
    return [step in kept for step in steps]
